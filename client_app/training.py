"""The local loop of Algorithm 1: E epochs of SGD, one forward and one backward pass a batch."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from client_app.methods import LocalMethod
from common.config import Experiment
from common.data import Dataset
from common.data.transforms import augment, prepare
from common.model import Model
from common.seeds import numpy_generator, torch_generator

Rows = npt.NDArray[np.int64]


def train_site(
    model: Model,
    method: LocalMethod,
    dataset: Dataset,
    rows: Rows,
    experiment: Experiment,
    site: str,
    server_round: int,
) -> dict[str, float]:
    """Train the model in place on a site's images and return the mean loss of each name.

    Args:
        rows: the site's rows of `dataset.train`; with none, nothing happens and no loss is returned.
        server_round: with the site's name and the seed it decides the order of batches and augmentation.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        lr=experiment.learning_rate,
        momentum=experiment.momentum,
        weight_decay=experiment.weight_decay,
    )
    order = numpy_generator(experiment.seed, "batches", site, server_round)
    pixels = torch_generator(experiment.seed, "augment", site, server_round)
    labels = torch.from_numpy(dataset.train.labels)
    totals: dict[str, float] = defaultdict(float)
    model.train()
    for _ in range(experiment.local_epochs):
        for batch in batches(rows, experiment.batch_size, order):
            images = augment(dataset.train.batch(batch), experiment.augment, pixels)
            images = prepare(images, dataset.mean, dataset.std, device)
            with _lone_image_safe(model, len(batch)):
                losses = method.losses(model, images, labels[torch.from_numpy(batch)].to(device))
            optimizer.zero_grad(set_to_none=True)
            torch.stack(tuple(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            for name, loss in losses.items():
                totals[name] += loss.item() * len(batch)
    seen = max(1, len(rows) * experiment.local_epochs)
    return {name: total / seen for name, total in totals.items()}


def batches(rows: Rows, size: int, order: np.random.Generator) -> Iterator[Rows]:
    """Yield a random permutation of the rows in batches.

    A last batch of a single image joins the one before it: BatchNorm has no variance over one image.
    """
    shuffled = order.permutation(rows)
    start, total = 0, len(shuffled)
    while start < total:
        stop = total if total - start <= size + 1 else start + size
        yield shuffled[start:stop]
        start = stop


@contextmanager
def _lone_image_safe(model: nn.Module, batch_size: int) -> Iterator[None]:
    """Let BatchNorm use its running statistics for a batch of one image (a site that has only one)."""
    if batch_size > 1 or not model.training:
        yield
        return
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def finetune_head(
    head: nn.Linear, features: torch.Tensor, labels: torch.Tensor, experiment: Experiment, site: str
) -> None:
    """Fine-tune a personal head in place for `finetune-epochs` on features of the frozen backbone.

    Args:
        features: [n, d] of the site's training images, taken once in eval mode without augmentation.
        labels: [n] class indices.
    """
    optimizer = torch.optim.SGD(
        head.parameters(),
        lr=experiment.finetune_learning_rate or experiment.learning_rate,
        momentum=experiment.momentum,
        weight_decay=experiment.weight_decay,
    )
    order = numpy_generator(experiment.seed, "finetune", site)
    rows = np.arange(len(labels), dtype=np.int64)
    for _ in range(experiment.finetune_epochs):
        for batch in batches(rows, experiment.batch_size, order):
            index = torch.from_numpy(batch).to(features.device)
            loss = nn.functional.cross_entropy(head(features[index]), labels[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
