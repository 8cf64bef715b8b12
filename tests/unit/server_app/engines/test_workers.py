"""What a worker of Flower's simulation claims of machines that are made up."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from common.config import Experiment
from common.data import build_federation
from common.methods import METHODS
from common.models.memory import output_bytes
from server_app.engines import workers
from server_app.engines.workers import gpu_bytes, worker_resources

Tiny = Callable[..., Experiment]
GIB = 1 << 30


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes a machine of so many processors and GPUs with so much free memory each."""

    def make(cores: int, gpus: int = 1, free: int = 80 * GIB) -> None:
        monkeypatch.setattr(workers.os, "cpu_count", lambda: cores)
        monkeypatch.setattr(workers, "pick_device", lambda _: torch.device("cuda" if gpus else "cpu"))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 80 * GIB))

    return make


@pytest.mark.parametrize(
    ("cores", "gpus", "sites", "threads", "expected"),
    [
        (16, 0, 20, 0, (16, 0.0)),  # without a GPU a worker has all processors, or one a thread
        (16, 0, 20, 2, (2, 0.0)),
        (2, 0, 20, 8, (2, 0.0)),
        (16, 1, 20, 0, (2, 1 / 8)),  # eight at most
        (4, 1, 20, 0, (1, 1 / 4)),  # a processor each
        (16, 1, 20, 4, (4, 1 / 4)),
        (16, 1, 3, 0, (5, 0.3333)),  # no more than there are sites
        (16, 2, 20, 0, (1, 1 / 8)),
        (4, 2, 20, 0, (1, 1 / 2)),
        (1, 4, 20, 0, (1, 1.0)),
    ],
)
def test_workers_share_the_machine(
    tiny: Tiny,
    machine: Callable[..., None],
    cores: int,
    gpus: int,
    sites: int,
    threads: int,
    expected: tuple[int, float],
) -> None:
    machine(cores, gpus)
    assert worker_resources(tiny(sites=sites, threads=threads, head_class_size=100)) == expected


def test_only_sites_that_are_asked_count(tiny: Tiny, machine: Callable[..., None]) -> None:
    machine(16)
    assert worker_resources(tiny(sites=10, participation=0.2, threads=0, head_class_size=100)) == (8, 1 / 2)


def test_memory_bounds_the_workers_and_one_part_is_the_coordinators(tiny: Tiny, machine: Callable[..., None]) -> None:
    experiment = tiny(sites=8, threads=0, head_class_size=100)
    one = gpu_bytes(experiment, build_federation(experiment).dataset)
    machine(16, free=int(4.5 * one / 0.8))
    assert worker_resources(experiment) == (5, 0.3333)
    machine(16, free=one // 2)  # too little for any: the run itself will say so
    assert worker_resources(experiment) == (16, 1.0)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_worker(tiny: Tiny, machine: Callable[..., None], name: str) -> None:
    machine(16)
    labels, values = METHODS[name].labels, {"method": name, "sites": 4, "threads": 0, "head_class_size": 100}
    attention = (None, True, False) if METHODS[name].trains else (None, False)
    several = {"composites": 200, "composites_test": 50, "head_bias": True}
    cases: list[dict[str, Any]] = [{}] if labels in ("any", "one") else []
    cases += [several | {"attention": asked} for asked in attention] if labels in ("any", "many") else []
    for case in cases:
        experiment = tiny(**values, **case)
        assert worker_resources(experiment) == (4, 1 / 4)
        assert gpu_bytes(experiment, build_federation(experiment).dataset) > GIB


def test_an_attentions_memory_is_counted(tiny: Tiny) -> None:
    dataset = build_federation(tiny()).dataset
    plain, asked = (
        tiny(composites=200, composites_test=50, head_bias=True, attention=a, batch_size=256) for a in (False, True)
    )
    assert gpu_bytes(asked, dataset) > gpu_bytes(plain, dataset)


def test_a_workers_memory_counts_images_weights_and_activations(tiny: Tiny, machine: Callable[..., None]) -> None:
    layers = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    assert sum(size for _, size in output_bytes(layers, (3, 6, 7))) == 4 * (5 * 6 * 7 * 2 + 5)
    dataset = build_federation(tiny()).dataset
    small, large = (gpu_bytes(tiny(batch_size=size), dataset) for size in (64, 128))
    assert GIB < small < large
    assert gpu_bytes(tiny(batch_size=256), dataset) - large == 2 * (large - small)
