"""What an experiment on someone's own images should be, each choice with its reason."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from common.config import Experiment, build
from common.data import Dataset
from common.models.ladm import LabelAwareBackbone
from common.models.model import body_of, build_model, uses_attention
from common.models.trunk import behind_trunk, through_trunk, trunk_of
from server_app.new.look import Sizes
from server_app.new.pretrained import Pretrained

_SMALL, _LARGE = 64, 128  # pixels a side at most, on a CPU and on a GPU
_TEN_MINUTES = 600.0  # seconds that a first run may take
_FEWEST, _MOST = 10, 100  # rounds
_TUNING = 8, 10  # rounds from pretrained weights
_MESSAGE = 0.05  # seconds that a site's round costs beside its training


@dataclass(frozen=True)
class Choice:
    """A key's value, and why."""

    value: Any
    why: str


Choices = dict[str, Choice]


def choose_size(sizes: Sizes | None, device: torch.device, start: Pretrained | None) -> Choice:
    """Return `image-size`: None where all images are small and of one size."""
    most = start.recipe.side if start else _LARGE if device.type == "cuda" else _SMALL
    if sizes is None:
        return Choice(most, f"photographs differ in size; for this machine's {device.type}")
    height_width = sizes.uniform
    if height_width and max(height_width) <= most:
        return Choice(None, f"all images are {height_width[1]}×{height_width[0]} pixels: they stay as they are")
    if sizes.median <= most:
        return Choice(max(8, sizes.median), f"short sides: {_range(sizes)} pixels")
    return Choice(
        most, f"short sides: {_range(sizes)} pixels; {most} is quick on this machine's {device.type}, more shows more"
    )


def _range(sizes: Sizes) -> str:
    low, high = sizes.short_sides[0], sizes.short_sides[-1]
    return f"{low}" if low == high else f"{low} to {high}, median {sizes.median}"


def choose_method(dataset: Dataset, start: Pretrained | None) -> Choices:
    """Return the method and what it needs."""
    if dataset.multilabel:
        wide = {
            "attention": Choice(False, "on so many features it trains far slower, and diverges at this learning-rate")
        }
        return {
            "method": Choice("fedloge_ml", "images have several labels, or none"),
            "head-bias": Choice(True, "with several labels an image every class needs one"),
            **(wide if start else {}),
            "tuned": Choice({"fednca_ml": {"learning-rate": 0.01}}, "of one method: behind its frame a rate acts more"),
        }
    return {"method": Choice("fedloge", "one label an image, classes of different sizes")}


def choose_sites(dataset: Dataset) -> Choices:
    """Return who has which images: the data's own sites, else simulated ones, a patient's images at one of them."""
    if dataset.train_sites is not None:
        sizes = np.bincount(dataset.train_sites, minlength=len(dataset.site_names))
        if len(sizes) > 1 and sizes.min() > 1:
            low, high = int(sizes.min()), int(sizes.max())
            return {"partition": Choice("natural", f"the data names {len(sizes)} sites, of {low} to {high} images")}
    units = len(dataset.train) if dataset.train_groups is None else len(np.unique(dataset.train_groups))
    sites = int(np.clip(units // 40, 2, 10))
    chosen = {
        "partition": Choice("dirichlet", "simulated sites that see the classes in different shares"),
        "sites": Choice(
            sites, f"simulated; {units} {'images' if dataset.train_groups is None else 'patients'} to deal"
        ),
        "dirichlet": Choice(0.5, "smaller: sites differ more; 100: hardly"),
        "min-site-size": Choice(max(1, min(10, units // (4 * sites))), "images that every site has at least"),
    }
    if dataset.train_groups is not None:
        chosen["keep-patients"] = Choice(True, "all images of a patient lie at one site")
    return chosen


def choose_model(dataset: Dataset, device: torch.device, start: Pretrained | None) -> Choices:
    """Return the backbone for this machine, wide enough for the classes' frame."""
    classes = len(dataset.classes)
    faster = {"channels-last": Choice(True, "faster on a CPU, the same up to rounding")}
    if start:
        recipe = start.recipe
        return {
            "backbone": Choice(recipe.backbone, f"{recipe.why}; --weights none: a small one, from nothing"),
            "weights": Choice(start.weights, start.why),
            "train-from": Choice(
                recipe.train_from, f"{recipe.trains} weights; what comes before is computed once an image, and kept"
            ),
            **(faster if device.type != "cuda" else {}),
        }
    if device.type == "cuda":
        return {"backbone": Choice("resnet18", "512 features; for a GPU")}
    width = max(16, -(-classes // 2))
    return {
        "backbone": Choice("cnn", "three layers: quick on a CPU; resnet18 needs a GPU"),
        "width": Choice(width, f"{4 * width} features for {classes} classes"),
        **faster,
    }


def choose_training(
    keys: dict[str, Any], dataset: Dataset, sites: int, device: torch.device, start: Pretrained | None
) -> Choices:
    """Return batch size, epochs and the rounds that this machine does in ten minutes or so.

    Args:
        keys: of the experiment so far.
        dataset: its images.
        sites: how many there are.
        device: what trains.
        start: pretrained weights, if any.
    """
    a_site = len(dataset.train) / sites
    batch = 16 if a_site < 1000 and not start else 32
    chosen: Choices = {
        "local-epochs": Choice(2, "passes over a site's images each round"),
        "batch-size": Choice(batch, f"about {max(1, round(a_site / batch))} steps an epoch at a site of mean size"),
    }
    experiment = build(keys | {key: choice.value for key, choice in chosen.items()}, source="what was chosen")
    frozen, image = seconds_an_image(experiment, dataset, device)
    side_by_side = 1 if device.type == "cuda" else min(os.cpu_count() or 1, sites)
    once = len(dataset.train) * frozen / side_by_side
    a_round = (len(dataset.train) * 2 * image + sites * _MESSAGE) / side_by_side
    fewest, most = _TUNING if start else (_FEWEST, _MOST)
    rounds = int(np.clip((_TEN_MINUTES - once) / a_round, fewest, most))
    minutes = max(1, round((once + rounds * a_round) / 60))
    where = f"{os.cpu_count()} processors" if device.type == "cpu" else device.type
    before = f", after {once:.0f} s for what stands still" if start else ""
    chosen["rounds"] = Choice(
        rounds, f"about {a_round:.1f} s each{before}, {minutes} min in all, on this machine's {where}"
    )
    chosen["evaluate-every"] = Choice(max(1, rounds // 10), "rounds between evaluations")
    return chosen | (_rates(dataset.multilabel) if start else {})


def _rates(multilabel: bool) -> Choices:
    """Return what trains pretrained weights, as measured at HAM10000's four hospitals."""
    chosen = {
        "learning-rate": Choice(0.03, "with this momentum and schedule it served a MobileNetV2 at four hospitals"),
        "momentum": Choice(0.9, "of SGD; AdamW at 1e-4 left heads undertrained"),
        "schedule": Choice("cosine", "the rate falls to 0 over the rounds"),
    }
    if multilabel:
        return chosen
    return chosen | {"finetune-epochs": Choice(5, "of personal heads at the end, at the method's own rate")}


def seconds_an_image(
    experiment: Experiment, dataset: Dataset, device: torch.device, steps: int = 3
) -> tuple[float, float]:
    """Return what one image costs in the part that stands still, 0 without one, and in training behind it.

    Measured on batches of zeros with one thread, as a site trains; heads are not counted, attention is.
    """
    classes, batch = len(dataset.classes), experiment.train.batch_size
    plain = experiment.replace(method="fedavg", attention=False)
    body = body_of(build_model(plain, dataset.train.channels, classes).backbone)
    backbone: torch.nn.Module = body
    if uses_attention(experiment):
        queries = torch.zeros(classes, body.feature_dim)
        backbone = LabelAwareBackbone(body, experiment.model.attention_heads, queries)
    backbone.to(device).train()
    images = torch.zeros(batch, dataset.train.channels, *dataset.train.size, device=device)
    threads = torch.get_num_threads()
    trunk = trunk_of(body)
    torch.set_num_threads(experiment.run.threads or threads)
    try:
        frozen = _seconds(lambda: through_trunk(body, images), device, steps) if trunk else 0.0
        inputs = through_trunk(body, images) if trunk else images
        with behind_trunk(backbone, trunk):
            training = _seconds(lambda: backbone(inputs).sum().backward(), device, steps)
    finally:
        torch.set_num_threads(threads)
    return frozen / batch, training / batch


def _seconds(work: Callable[[], object], device: torch.device, steps: int) -> float:
    """Return the time of some work, the mean of some steps after one that warms up."""
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps
