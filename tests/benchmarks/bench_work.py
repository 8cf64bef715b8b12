"""What the benchmark's parts work on: images of noise, experiments on them, a bare PyTorch loop, a run by rounds."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Message
from torch.nn.functional import cross_entropy

from client_app.training.loop import batches
from common import wire
from common.config import Experiment, build
from common.data import build_federation
from common.models.model import build_model
from server_app.app import run
from server_app.engines.engines import load_client_app, works_ahead
from server_app.grids.local_grid import LocalGrid
from tests.benchmarks.bench_turns import Lap, Work

CLASSES = 10
_runs = itertools.count()  # each has a folder of its own


@dataclass(frozen=True)
class Sizes:
    """How large the measured work is.

    Attributes:
        sites: K.
        few: sites where their number does not matter.
        images: training images a site, a multiple of `batch`.
        overhead: training images a site for the overhead: a few steps, and as many as CIFAR-10-LT's sites have (310).
        test: test images of the coordinator; each site draws its own from them.
        batch: images a step.
        width: of the backbone; None: its own.
        laps: repetitions of which the median is taken.
        counts: the numbers of sites whose cost is compared.
        backbones: those of the overhead.
        rounds: of the run whose memory must not grow.
        heavy: the sizes for a ResNet; None: these.
    """

    sites: int = 20
    few: int = 20
    images: int = 64
    overhead: tuple[int, ...] = (64, 320)
    test: int = 500
    batch: int = 32
    width: int | None = None
    laps: int = 5
    counts: tuple[int, ...] = (10, 40, 100, 400)
    backbones: tuple[str, ...] = ("cnn", "resnet18")
    rounds: int = 200
    heavy: "Sizes | None" = None

    def of(self, backbone: str) -> "Sizes":
        """Return the sizes for a backbone."""
        return self.heavy if self.heavy and backbone != "cnn" else self


# two cores train 20 to 40 images a second of a ResNet-18: the whole table is to take less than half an hour
SIZES = {
    "cpu": Sizes(heavy=Sizes(few=4, overhead=(64,), test=200, laps=3)),
    "cuda": Sizes(images=320, overhead=(64, 320), test=10_000),
}
QUICK = Sizes(
    sites=2, few=2, rounds=4, images=8, overhead=(8,), test=20, batch=4, width=4, laps=1,
    counts=(2, 4), backbones=("cnn",),
)  # fmt: skip


def write_noise(path: Path, train: int, test: int, channels: int = 3, side: int = 32) -> Path:
    """Write an `npz` data set of noise, as many images of each class, and return its path."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, number in (("train", train), ("test", test)):
        arrays[f"x_{name}"] = rng.integers(0, 256, (number, side, side, channels), dtype=np.uint8)
        arrays[f"y_{name}"] = np.arange(number) % CLASSES
    np.savez(path, **arrays)
    return path


def experiment_of(sizes: Sizes, folder: Path, device: str, **changes: Any) -> Experiment:
    """Return an experiment on noise below `folder`, whose rounds train alone: nothing is evaluated after the first."""
    sites, images = changes.pop("sites", sizes.sites), changes.pop("images", sizes.images)
    data = folder / f"noise-{sites * images}-{sizes.test}.npz"
    if not data.exists():
        write_noise(data, sites * images, sizes.test)
    values: dict[str, Any] = {
        "name": "bench", "dataset": "npz", "data-dir": str(data), "imbalance-factor": 1, "partition": "iid",
        "sites": sites, "batch-size": sizes.batch, "learning-rate": 1e-3, "width": sizes.width, "local-epochs": 1,
        "method": "fedavg", "rounds": 1000, "evaluate-every": 100_000, "device": device, "threads": 1,
        "output-dir": str(folder / "runs"),
    }  # fmt: skip
    values |= {key.replace("_", "-"): value for key, value in changes.items()}
    return build(values | {"run-name": f"run-{next(_runs)}"})


class TurnGrid(LocalGrid):
    """The in-process engine, which begins a lap with every round."""

    def __init__(self, experiment: Experiment, lap: Lap) -> None:
        super().__init__(load_client_app(), experiment.sites.sites, ahead=works_ahead(experiment))
        self._lap = lap

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        yield from super().send_and_receive(self._with_lap(messages), timeout=timeout)

    def _with_lap(self, messages: Iterable[Message]) -> Iterator[Message]:
        for number, message in enumerate(messages):
            if not number and message.metadata.message_type == wire.TRAIN:
                self._lap()
            yield message


def federated(experiment: Experiment) -> Work:
    """Return a run as work of which a lap is a whole round: messages, training, averaging, checkpoint."""
    return lambda lap: run(TurnGrid(experiment, lap), experiment)


def bare(experiment: Experiment) -> Work:
    """Return the same batches of all sites as one plain PyTorch loop; a lap is one pass over all of them."""

    def work(lap: Lap) -> None:
        one_pass = bare_pass(experiment)
        while True:
            lap()
            one_pass()

    return work


def bare_pass(
    experiment: Experiment,
    sites: slice = slice(None),
    compiled: str | None = None,
    **of_sgd: bool,
) -> Callable[[], float]:
    """Return a function that trains one model on the batches of some sites' rounds and returns the mean loss.

    Args:
        experiment: whose.
        sites: which.
        compiled: a mode of `torch.compile` for the backbone; None: as it is.
        of_sgd: further arguments of the optimiser.
    """
    torch.set_num_threads(experiment.run.threads)
    dataset, everybody = build_federation(experiment).dataset, build_federation(experiment).train_rows
    device = torch.device(experiment.run.device)
    model = build_model(experiment, dataset.train.channels, CLASSES).to(device)
    psi = model.aux_head
    assert psi is not None
    sgd = torch.optim.SGD(
        model.parameters(), lr=experiment.train.learning_rate, momentum=experiment.train.momentum, **of_sgd
    )
    if compiled:
        model.backbone.compile(mode=compiled)
    mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (dataset.mean, dataset.std))
    pixels = dataset.train.batch(np.arange(len(dataset.train))).to(device)
    labels = torch.from_numpy(dataset.train.labels).to(device)
    rng = np.random.default_rng(0)

    def one_pass() -> float:
        model.train()
        total, steps = torch.zeros((), device=device), 0
        for rows in everybody[sites]:
            for _ in range(experiment.train.local_epochs):
                for batch in batches(rows, experiment.train.batch_size, rng):
                    index = torch.from_numpy(batch).to(device)
                    loss = cross_entropy(psi(model((pixels[index].float() / 255 - mean) / std)), labels[index])
                    sgd.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    sgd.step()
                    total, steps = total + loss.detach(), steps + 1
        return float(total) / max(1, steps)

    return one_pass
