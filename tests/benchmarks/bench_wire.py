"""Bytes of a training message and of its reply ÷ those of a bare fp32 backbone, in both precisions of the wire."""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from flwr.app import Message

from common import wire
from common.config import Experiment
from common.models.model import build_model
from server_app.app import run
from server_app.engines.engines import load_client_app
from server_app.grids.local_grid import LocalGrid
from tests.benchmarks.bench_ratio import Ratio
from tests.benchmarks.bench_work import CLASSES, Sizes, experiment_of

_GOALS = {"single": 1.02, "half": 0.52}  # of `wire`, for a ResNet-18


class _Scale(LocalGrid):
    """The in-process engine, which weighs what crosses after the first round, in which the frame travels too."""

    def __init__(self, sites: int) -> None:
        super().__init__(load_client_app(), sites)
        self.down: list[int] = []
        self.up: list[int] = []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        for message in messages:
            reply = self._answer(message)
            if message.metadata.message_type == wire.TRAIN and message.content["config"]["round"] != 1:
                self.down.append(_bytes(message))
                self.up.append(_bytes(reply))
            yield reply


def _bytes(message: Message) -> int:
    """Return the bytes of arrays, and of names and other values as text."""
    records: dict[str, Any] = {
        **message.content.config_records,
        **message.content.metric_records,
        **{name: dict.fromkeys(record) for name, record in message.content.array_records.items()},
    }
    return wire.num_bytes(message) + len(json.dumps({name: dict(r) for name, r in records.items()}))


def wire_bytes(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield bytes down and up a site and round ÷ a bare fp32 backbone, of FedLoGe, by backbone, precision and way.

    The goals are for a ResNet-18. The small CNN cannot meet them: ψ, which must cross too, is already 2.7 % of its
    backbone, and so are the headers of 128 bytes that NumPy gives each of its arrays.
    """
    for backbone, (precision, limit) in itertools.product(sizes.backbones, _GOALS.items()):
        goal = limit if backbone == "resnet18" else None
        few = {"sites": 2, "images": sizes.batch, "rounds": 2, "wire": precision}
        experiment = experiment_of(sizes, folder, device, method="fedloge", backbone=backbone, **few)
        grid, size = _Scale(experiment.sites.sites), backbone_bytes(experiment)
        run(grid, experiment)
        for way, found in (("down", grid.down), ("up", grid.up)):
            words = f", {precision} precision" if precision != "single" else ""
            what = f"bytes {way} a site and round ÷ fp32 backbone, {backbone}{words}"
            absolute = f"{fmean(found) / 1e6:.3f} MB / {size / 1e6:.3f} MB"
            yield Ratio("wire", what, device, fmean(found) / size, absolute, goal)


def backbone_bytes(experiment: Experiment) -> int:
    """Return the bytes of the backbone's parameters and statistics."""
    backbone = build_model(experiment, 3, CLASSES).backbone
    return sum(value.nbytes for value in backbone.state_dict().values())
