"""What each way to be faster is worth: training with it ÷ the same without, in turns, a row each.

`channels-last` and `bf16` are keys of an experiment. A model loaded in place and blocks of memory that the process
keeps are how FedNC works anyway. The others are tried on the bare loop, to know whether they would pay here.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from flwr.app import Message

import client_app.training.model_cache as models
from common.config import APP_ROOT, Experiment, build
from common.errors import one_line
from server_app.app import run
from server_app.engines.flower_run import KEEP_MEMORY
from tests.benchmarks.bench_ratio import Ratio, paired, seconds
from tests.benchmarks.bench_turns import Lap, Work, take_turns
from tests.benchmarks.bench_work import QUICK, Sizes, TurnGrid, bare_pass, experiment_of, federated


def steps(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield a row for each option; those that the device does not have are left out."""
    backbone = sizes.backbones[-1]
    own = replace(sizes.of(backbone), sites=2, images=sizes.batch * (1 if device == "cpu" else 10))
    keys: dict[str, dict[str, object]] = {
        "channels-last": {"channels_last": True},
        "bf16": {"precision": "bf16"},
        "channels-last and bf16": {"channels_last": True, "precision": "bf16"},
    }

    def experiment(**changes: object) -> Experiment:
        return experiment_of(own, folder, device, backbone=backbone, method="fedavg", **changes)

    for name, key in keys.items():
        works = {"with": federated(experiment(**key)), "plain": federated(experiment())}
        yield _row(f"round with {name} ÷ plain, {backbone}", device, take_turns(works, own.laps))
    works = {"with": federated(experiment()), "plain": anew(experiment())}
    yield _row(f"round with one model in place ÷ built for each site, {backbone}", device, take_turns(works, own.laps))
    for name, option in _loop_options(device, sizes).items():
        works = {"with": _loop(experiment(), **option), "plain": _loop(experiment())}
        try:
            found = take_turns(works, own.laps)
        except Exception as error:  # a compiler that is absent or fails costs its row, not the table
            print(
                f"steps: {name} was not measured: {one_line(f'{type(error).__name__}: {error}', 200)}", file=sys.stderr
            )
            continue
        yield _row(f"bare loop with {name} ÷ plain, {backbone}", device, found)
    if device == "cpu" and sys.platform == "linux":
        yield _kept_memory(experiment(), backbone, own.laps, 1 if sizes is QUICK else 2)


def _row(what: str, device: str, found: dict[str, list[float]]) -> Ratio:
    return Ratio("steps", what, device, paired(found["with"], found["plain"]), seconds(found["with"], found["plain"]))


def _loop_options(device: str, sizes: Sizes) -> dict[str, dict[str, object]]:
    options: dict[str, dict[str, object]] = {"foreach SGD": {"foreach": True}, "fused SGD": {"fused": True}}
    if sizes is QUICK:
        return options
    if shutil.which("c++") or shutil.which("g++") or device == "cuda":
        options["torch.compile"] = {"compiled": "default"}
    if device == "cuda":
        options |= {"CUDA graphs": {"compiled": "reduce-overhead"}, "cudnn.benchmark": {"autotuned": True}}
    return options


def _loop(experiment: Experiment, autotuned: bool = False, **options: object) -> Work:
    def work(lap: Lap) -> None:
        one_pass = bare_pass(experiment, **options)  # type: ignore[arg-type]
        while True:
            lap()
            torch.backends.cudnn.benchmark = autotuned
            one_pass()
            torch.backends.cudnn.benchmark = False

    return work


class _AnewGrid(TurnGrid):
    """The in-process engine, which builds the model of every message anew."""

    def _answer(self, message: Message) -> Message:
        kept, models._models = models._models, OrderedDict()
        try:
            return super()._answer(message)
        finally:
            models._models = kept


def anew(experiment: Experiment) -> Work:
    """Return a run as work of which a lap is a round, whose sites build their model anew each time."""
    return lambda lap: run(_AnewGrid(experiment, lap), experiment)


def _kept_memory(experiment: Experiment, backbone: str, laps: int, each: int) -> Ratio:
    """Compare processes that keep their large blocks of memory with others, one or two of each in turns."""
    found: dict[bool, list[float]] = {True: [], False: []}
    without = {key: value for key, value in os.environ.items() if key not in KEEP_MEMORY}
    for kept in (True, False, False, True)[: 2 * each]:
        command = [sys.executable, "-m", "tests.benchmarks.bench_steps", json.dumps(experiment.dump()), str(laps)]
        environment = without | (KEEP_MEMORY if kept else {})
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=APP_ROOT, env=environment)
        found[kept] += json.loads(done.stdout.splitlines()[-1])
    what = f"bare loop with kept memory ÷ plain, {backbone}"
    return Ratio("steps", what, "cpu", paired(found[True], found[False]), seconds(found[True], found[False]))


def _timed(experiment: Experiment, laps: int) -> list[float]:
    one_pass, found = bare_pass(experiment), []
    for _ in range(laps + 1):
        began = time.perf_counter()
        one_pass()
        found.append(time.perf_counter() - began)
    return found[1:]


if __name__ == "__main__":
    print(json.dumps(_timed(build(json.loads(sys.argv[1])), int(sys.argv[2]))))
