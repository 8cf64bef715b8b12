"""Seconds a round and peak memory by the number of sites, with the same images in all, and by the images."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from common.config import APP_ROOT, build
from server_app.app import run
from server_app.engines.engines import load_client_app
from server_app.grids.local_grid import LocalGrid
from tests.benchmarks.bench_ratio import Ratio, paired, peak, seconds
from tests.benchmarks.bench_turns import take_turns
from tests.benchmarks.bench_work import Sizes, experiment_of, federated

_MORE = 4  # times as many images
_BATCH = 8  # images a step: the most sites have one step each


def scale(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield cost and memory of many sites ÷ few, at as many images in all, and cost of 4 × the images ÷ 4.

    The fewest sites have as many batches in all as the most, which have one each.
    """
    sizes = replace(sizes, batch=min(sizes.batch, _BATCH))
    fewest, most = sizes.counts[0], sizes.counts[-1]
    total = most * sizes.batch
    runs = {
        count: experiment_of(sizes, folder, device, backbone="cnn", sites=count, images=total // count)
        for count in sizes.counts
    }
    for count in sizes.counts[1:]:  # two at a time: a process keeps the partitions of two
        found = take_turns({"many": federated(runs[count]), "few": federated(runs[fewest])}, sizes.laps)
        what = f"round of {count} sites ÷ of {fewest}, {total} images in all, cnn"
        many, few = found["many"], found["few"]
        runs[fewest] = runs[fewest].replace(run_name=f"{runs[fewest].run.run_name}-again")
        yield Ratio("scale", what, device, paired(many, few), seconds(many, few), 1.25 if count == most else None)
    yield _linear(sizes, folder, device, fewest)
    peaks = {count: _peak(experiment.dump()) for count, experiment in runs.items()}
    for count in sizes.counts[1:]:
        for index, memory in enumerate(("memory", "GPU memory") if device == "cuda" else ("memory",)):
            many, few = peaks[count][index], peaks[fewest][index]
            what = f"peak {memory} of {count} sites ÷ of {fewest}, {total} images in all, cnn"
            yield Ratio("scale", what, device, many / few, f"{many:.0f} MB / {few:.0f} MB", 1.15)


def _linear(sizes: Sizes, folder: Path, device: str, sites: int) -> Ratio:
    few = sizes.batch * sizes.counts[-1] // sites // _MORE
    both = {
        times: experiment_of(sizes, folder, device, backbone="cnn", sites=sites, images=few * times)
        for times in (1, _MORE)
    }
    found = take_turns({str(times): federated(experiment) for times, experiment in both.items()}, sizes.laps)
    more, one = found[str(_MORE)], found["1"]
    what = f"round of {_MORE} × the images ÷ {_MORE} rounds, {sites} sites, cnn"
    value = paired(more, one) / _MORE
    return Ratio("scale", what, device, value, f"{median(more):.3f} s / {_MORE} × {median(one):.3f} s", 1.05)


def _peak(values: dict[str, object]) -> list[float]:
    """Return the peak resident memory, in MB, of a process of its own that runs two rounds, and that of the GPU."""
    values = {**values, "rounds": 2, "run-name": f"{values['run-name']}-peak"}
    command = [sys.executable, "-m", "tests.benchmarks.bench_scale", json.dumps(values)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=APP_ROOT)
    return [float(word) for word in done.stdout.splitlines()[-1].split()]


if __name__ == "__main__":
    logging.getLogger("flwr").setLevel(logging.ERROR)
    wanted = build(json.loads(sys.argv[1]))
    run(LocalGrid(load_client_app(), wanted.sites.sites), wanted)
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    print(peak(), gpu)
