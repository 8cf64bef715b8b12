"""The same work in the style of PFLlib, written from its published description, as a baseline.

PFLlib (Zhang et al., JMLR 2025, https://arxiv.org/abs/2312.04992) gives every client a copy of the model and a data
loader of its own each round, copies parameters down and up, and evaluates client by client. FedLoGe's public code does
so with batches of 8 at evaluation and a backward pass for each of its three losses. No code is taken over.
"""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset

from common.config import Experiment
from common.data import ImageSource, build_federation
from common.models.model import Model, build_model, feature_dim
from server_app.frames.build import build_frame
from tests.benchmarks.bench_turns import Lap, Work
from tests.benchmarks.bench_work import CLASSES

_EVAL_BATCH = 8

Images = Dataset[tuple[Tensor, ...]]


class _Client:
    """One client: a model of its own, float images of its own, a loader whenever it needs one."""

    def __init__(self, model: Model, train: Images, test: Images, experiment: Experiment) -> None:
        self.model, self._train, self._test = copy.deepcopy(model), train, test
        self._experiment, self._device = experiment, torch.device(experiment.run.device)

    def receive(self, model: Model) -> None:
        for part in ("backbone", "aux_head"):
            for old, new in zip(getattr(self.model, part).parameters(), getattr(model, part).parameters(), strict=True):
                old.data = new.data.clone()
            for kept, came in zip(getattr(self.model, part).buffers(), getattr(model, part).buffers(), strict=True):
                kept.data = came.data.clone()

    def train(self) -> float:
        model, rate = self.model.train(), self._experiment.train.learning_rate
        psi, phi = model.aux_head, model.personal_head
        assert psi is not None and phi is not None
        parts = (model.backbone, psi, phi)
        steps = [
            torch.optim.SGD(part.parameters(), lr=rate, momentum=self._experiment.train.momentum) for part in parts
        ]
        total = 0.0
        for _ in range(self._experiment.train.local_epochs):
            for images, labels in DataLoader(self._train, self._experiment.train.batch_size, shuffle=True):
                images, labels = images.to(self._device), labels.to(self._device)
                features = model(images)
                losses = (
                    cross_entropy(model.frame_logits(features), labels),
                    cross_entropy(psi(features.detach()), labels),
                    cross_entropy(phi(features.detach()), labels),
                )
                for loss, step in zip(losses, steps, strict=True):
                    step.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    step.step()
                    total += loss.item()
        return total

    @torch.no_grad()
    def evaluate(self) -> int:
        model, hits = self.model.eval(), 0
        assert model.personal_head is not None
        for images, labels in DataLoader(self._test, _EVAL_BATCH):
            logits = model.personal_head(model(images.to(self._device)))
            hits += int((logits.argmax(1) == labels.to(self._device)).sum().item())
        return hits


def peer(experiment: Experiment) -> Work:
    """Return the loop as work of which a lap is a round: every client is evaluated, trains, and is averaged."""

    def work(lap: Lap) -> None:
        torch.set_num_threads(experiment.run.threads)
        federation = build_federation(experiment)
        dataset = federation.dataset
        start = build_model(experiment, dataset.train.channels, CLASSES)
        frame, _ = build_frame(experiment, CLASSES, feature_dim(start.backbone))
        server = build_model(experiment, dataset.train.channels, CLASSES, frame, site="x").to(experiment.run.device)
        scale = dataset.mean, dataset.std
        clients = [
            _Client(server, _images(dataset.train, a, scale), _images(dataset.test, b, scale), experiment)
            for a, b in zip(federation.train_rows, federation.test_rows, strict=True)
        ]
        whole = _Client(server, _images(dataset.test, np.arange(0), scale),
                        _images(dataset.test, np.arange(len(dataset.test)), scale), experiment)  # fmt: skip
        shares = np.array([len(rows) for rows in federation.train_rows]) / sum(map(len, federation.train_rows))
        while True:
            lap()
            for client in (*clients, whole):
                client.receive(server)
                client.evaluate()
            for client in clients:
                client.train()
            uploads = [copy.deepcopy(client.model) for client in clients]
            _average(server, uploads, shares.tolist())

    return work


def _images(source: ImageSource, rows: np.ndarray, scale: tuple[tuple[float, ...], tuple[float, ...]]) -> Images:
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in scale)
    return TensorDataset((source.batch(rows).float() / 255 - mean) / std, torch.from_numpy(source.labels[rows]))


@torch.no_grad()
def _average(server: nn.Module, uploads: list[Model], shares: list[float]) -> None:
    for name, value in server.state_dict().items():
        if not name.startswith("personal") and value.is_floating_point():
            value.zero_()
            for upload, share in zip(uploads, shares, strict=True):
                value += share * upload.state_dict()[name]
