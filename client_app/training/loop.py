"""The local loop of Algorithm 1: E epochs, one forward and one backward pass a batch."""

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client_app.methods.base import LocalContext, LocalMethod, Mixed, Phase
from client_app.site.site import Site
from client_app.training.mixing import draw_mixes
from client_app.training.optimiser import State, optimiser_for, scaler_for, state_of, take_step
from common.config import Experiment
from common.data.images.augmentation import augmentation_for
from common.data.images.views import views_of
from common.errors import RefusalError
from common.models.backbones import Backbone
from common.models.features import Change, model_inputs
from common.models.model import Model
from common.models.trunk import behind_trunk, trunk_of
from common.rates import finetune_rate
from common.seeds import numpy_generator, torch_generator

Rows = npt.NDArray[np.int64]


def train_site(
    model: Model,
    method: LocalMethod,
    site: Site,
    server_round: int,
    *,
    phases: tuple[Phase, ...] | None = None,
    learning_rate: float | None = None,
    stream: str = "",
    state: State | None = None,
) -> dict[str, float]:
    """Train the model in place on a site's images and return the mean loss of each name.

    Args:
        model: as it arrived: proximal terms hold it to what it is now.
        method: its losses and phases.
        site: its images and experiment; without training images nothing happens and no loss is returned.
        server_round: with the site's name and the seed it decides the order of batches and augmentation.
        phases: by default the method's own.
        learning_rate: by default the experiment's, as it is without a schedule.
        stream: names random streams of their own for training outside the rounds.
        state: of the optimiser that goes on from it, changed in place; None: each phase has one of its own.

    Raises:
        RefusalError: a loss is no longer finite.

    Example:
        >>> from client_app.methods import load
        >>> from client_app.site.site import simulated_site
        >>> from common.config import build
        >>> from common.models.model import build_model
        >>> site = simulated_site(build({"method": "fedavg", "dataset": "digits", "sites": 3, "local-epochs": 1}), 0)
        >>> model = build_model(site.experiment, site.dataset.train.channels, len(site.dataset.classes))
        >>> sorted(train_site(model, load("fedavg"), site, 1))
        ['backbone']
    """
    experiment = site.experiment
    order_rng = numpy_generator(experiment.run.seed, f"{stream}batches", site.name, server_round)
    augmentation_rng = torch_generator(experiment.run.seed, f"{stream}augment", site.name, server_round)
    mixing_rng = numpy_generator(experiment.run.seed, f"{stream}mixing", site.name, server_round)
    rngs, local = (order_rng, augmentation_rng, mixing_rng), local_context(model, method, site)
    rate = experiment.train.learning_rate if learning_rate is None else learning_rate
    totals: dict[str, float] = defaultdict(float)
    seen, device, trunk = 0, local.class_counts.device, trunk_of(model)
    for phase in phases or method.phases(experiment):
        with _frozen(model, phase.frozen), behind_trunk(model, trunk):
            optimizer = optimiser_for(model.named_parameters(), rate, experiment, state)
            scaler = scaler_for(experiment, device)
            for _ in range(phase.epochs):
                batch_losses = []
                for images, labels, mixed in _epoch(model, trunk, site, rngs, device):
                    with _single_image_safe(model, len(labels)):
                        of_batch = replace(local, mixed=mixed)
                        losses = (phase.losses or method.losses)(model, images, labels, of_batch)
                    values = torch.stack(tuple(losses.values()))
                    take_step(optimizer, values.sum(), experiment, scaler)
                    seen += len(labels)
                    batch_losses.append((tuple(losses), values.detach(), len(labels)))
                _accumulate_losses(batch_losses, totals, experiment)
            if state is not None:
                state |= state_of(optimizer)
    return {name: total / max(1, seen) for name, total in totals.items()}


def _accumulate_losses(
    batch_losses: list[tuple[tuple[str, ...], Tensor, int]], totals: dict[str, float], experiment: Experiment
) -> None:
    """Add an epoch's losses (names, values, images of each batch), fetched at once: a GPU must wait for each fetch."""
    if not batch_losses:
        return
    fetched = torch.stack([values for _, values, _ in batch_losses]).tolist()
    for (names, _, images), values in zip(batch_losses, fetched, strict=True):
        for name, value in zip(names, values, strict=True):
            if not math.isfinite(value):
                raise RefusalError(  # the coordinator may know: it names no file
                    f"training diverged, its loss '{name}' is {value}: a smaller learning-rate than "
                    f"{experiment.train.learning_rate:g} may help" + _or_precision(experiment)
                )
            totals[name] += value * images


def _or_precision(experiment: Experiment) -> str:
    return ", or precision: bf16" if experiment.model.precision == "fp16" else ""


def local_context(model: Model, method: LocalMethod, site: Site) -> LocalContext:
    """Return what a method may know at a site; arguments as for `train_site`."""
    device = next(model.parameters()).device
    kept = model.named_parameters() if method.needs_broadcast else ()
    broadcast = {name: p.detach().clone() for name, p in kept if not name.startswith("personal")}
    known = None if site.visible is None else torch.from_numpy(site.visible).to(device)
    counts = torch.from_numpy(site.class_counts).float().to(device)
    return LocalContext(site.experiment, counts, broadcast, len(site.train_rows), known, site.name)


def _epoch(
    model: Model,
    trunk: Backbone | None,
    site: Site,
    rngs: tuple[np.random.Generator, torch.Generator, np.random.Generator],
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor, Mixed | None]]:
    """Yield an epoch's batches as what the model takes behind its trunk, and labels; draws go to the device at once.

    Args:
        rngs: of the order, of augmentation, and of mixing.
    """
    dataset, (order_rng, augmentation_rng, mixing_rng) = site.dataset, rngs
    shuffled = order_rng.permutation(site.train_rows)
    parts = list(slices(len(shuffled), site.experiment.train.batch_size))
    change = _augmentation(site, shuffled, [part.stop - part.start for part in parts], augmentation_rng, device)
    mixes = draw_mixes(site.experiment, parts, dataset.train.size, mixing_rng)

    def mix(images: Tensor, part: slice) -> Tensor:
        return mixes[part.start].images(images)

    mixed = mix if mixes else None
    inputs, labels = model_inputs(model, trunk, dataset.train, shuffled, dataset, change, mixed)
    for part in parts:
        yield inputs(part), labels[part], mixes[part.start].labels(labels[part]) if mixes else None


def _augmentation(
    site: Site, shuffled: Rows, sizes: list[int], rng: torch.Generator, device: torch.device
) -> Change | None:
    """Draw an epoch's augmentation of training images in this order, in batches of these sizes."""
    if views := views_of(site.experiment):
        images = len(site.dataset.train)
        numbers = views.numbers(shuffled, images, rng)
        return Change(lambda pixels, part: views.apply(pixels, numbers[part], images), views, numbers)
    augmentation = augmentation_for(site.experiment)
    draws = augmentation.epoch(sizes, rng)
    if draws is None:
        return None
    here = draws.to(device)
    return Change(lambda pixels, part: augmentation.apply(pixels, here.cut(part)))


@contextmanager
def _frozen(model: Model, parts: tuple[str, ...]) -> Iterator[None]:
    """Train the model with some parts frozen: no gradients, and BatchNorm by its statistics."""
    model.train()
    frozen: list[nn.Module | nn.Parameter] = [attrgetter(part)(model) for part in parts]
    moving = [p for part in frozen for p in _parameters(part) if p.requires_grad]  # others stand still anyway
    for part in frozen:
        part.requires_grad_(False)
        if isinstance(part, nn.Module):
            part.eval()
    try:
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)


def _parameters(part: nn.Module | nn.Parameter) -> list[nn.Parameter]:
    return list(part.parameters()) if isinstance(part, nn.Module) else [part]


def batches(rows: Rows, size: int, order_rng: np.random.Generator) -> Iterator[Rows]:
    """Yield a random permutation of the rows in batches, cut as `slices` says."""
    shuffled = order_rng.permutation(rows)
    return (shuffled[part] for part in slices(len(rows), size))


def slices(total: int, size: int) -> Iterator[slice]:
    """Yield the batches of `total` images as slices.

    A last batch of a single image joins the one before it: BatchNorm has no variance over one image.
    """
    start = 0
    while start < total:
        stop = total if total - start <= size + 1 else start + size
        yield slice(start, stop)
        start = stop


@contextmanager
def _single_image_safe(model: nn.Module, batch_size: int) -> Iterator[None]:
    """Let BatchNorm use its running statistics for a batch of one image (a site that has only one)."""
    if batch_size > 1:
        yield
        return
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def finetune_head(head: nn.Module, features: Tensor, labels: Tensor, local: LocalContext) -> None:
    """Fine-tune a personal head in place for `finetune-epochs` on features of the frozen backbone.

    Args:
        features: [n, d] of the site's training images, taken once in eval mode without augmentation.
        labels: [n] class indices, or bool [n, C].
        local: what the site knows.
    """
    experiment = local.experiment
    optimizer = optimiser_for(head.named_parameters("personal_head"), finetune_rate(experiment), experiment)
    order_rng = numpy_generator(experiment.run.seed, "finetune", local.site)
    rows = np.arange(len(labels), dtype=np.int64)
    for _ in range(experiment.personalise.finetune_epochs):
        shuffled = torch.from_numpy(order_rng.permutation(rows)).to(features.device)
        for part in slices(len(rows), experiment.train.batch_size):
            index = shuffled[part]
            loss = local.loss(head(features[index]), labels[index])
            take_step(optimizer, loss, experiment)
