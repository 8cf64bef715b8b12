"""Overhead of Flower's simulation: a round ÷ the same batches in bare loops, as many side by side as workers."""

import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import torch

from common.config import Experiment, build
from server_app.engines.engines import run_flower
from server_app.engines.workers import worker_resources
from server_app.run.journal import read_events
from tests.benchmarks.bench_ratio import Ratio, seconds
from tests.benchmarks.bench_work import Sizes, bare_pass, experiment_of

_barrier: Barrier | None = None


def overhead_ray(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield a FedAvg round in Ray ÷ bare loops, a row a backbone; the bare loops run before and after."""
    cores = os.cpu_count() or 1
    for backbone in sizes.backbones:
        own = sizes.of(backbone)
        own = replace(own, sites=max(own.sites, cores))
        experiment = experiment_of(own, folder, device, backbone=backbone, rounds=own.laps + 1)
        cpus, gpus = worker_resources(experiment)
        workers = min(own.sites, cores // cpus, round(1 / gpus) * torch.cuda.device_count() if gpus else cores)
        before = bare_seconds(experiment, workers, max(1, own.laps // 2))
        rounds = ray_seconds(experiment)
        bare = before + bare_seconds(experiment, workers, max(1, own.laps // 2))
        goal = 1.25 if backbone == "resnet18" else None
        what = f"Ray round ÷ bare loops, {workers} workers, {backbone}, {experiment.sites.sites} sites"
        yield Ratio("ray", what, device, median(rounds) / median(bare), seconds(rounds, bare), goal)


def ray_seconds(experiment: Experiment) -> list[float]:
    """Return the seconds between the ends of rounds; the first round, in which workers start, is left out."""
    with redirect_stdout(io.StringIO()):
        run_flower(experiment)
    assert experiment.run.run_name is not None
    ends = [
        e["time"] for e in read_events(experiment.run.output_dir / experiment.run.run_name) if e["event"] == "round"
    ]
    return [after - before for before, after in pairwise(ends)]


def bare_seconds(experiment: Experiment, workers: int, laps: int) -> list[float]:
    """Return the seconds that bare loops of a share of the sites each take side by side, each lap the slowest one's."""
    context = get_context("spawn")
    values = json.dumps(experiment.dump())
    with context.Pool(workers, _keep, (context.Barrier(workers),)) as pool:
        found = pool.starmap(_share, [(values, worker, workers, laps) for worker in range(workers)], chunksize=1)
    return [max(lap) for lap in zip(*found, strict=True)]


def _keep(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _share(values: str, worker: int, workers: int, laps: int) -> list[float]:
    """Run every so-manyth site's batches, all workers at the same time, after a pass to warm up."""
    assert _barrier is not None
    one_pass = bare_pass(build(json.loads(values)), slice(worker, None, workers))
    one_pass()
    found = []
    for _ in range(laps):
        _barrier.wait()
        began = time.perf_counter()
        one_pass()
        found.append(time.perf_counter() - began)
    return found
