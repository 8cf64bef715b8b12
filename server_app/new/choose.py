"""What an experiment on someone's own images should be, each choice with its reason."""

import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from common.config import Experiment, build
from common.data import Dataset
from common.models.model import build_model
from server_app.new.look import Sizes

_SMALL, _LARGE = 64, 128  # pixels a side at most, on a CPU and on a GPU
_TEN_MINUTES = 600.0  # seconds that a first run may take
_FEWEST, _MOST = 10, 100  # rounds
_MESSAGE = 0.05  # seconds that a site's round costs beside its training


@dataclass(frozen=True)
class Choice:
    """A key's value, and why."""

    value: Any
    why: str


Choices = dict[str, Choice]


def choose_size(sizes: Sizes | None, device: torch.device) -> Choice:
    """Return `image-size`: None where all images are small and of one size."""
    most = _LARGE if device.type == "cuda" else _SMALL
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


def choose_method(dataset: Dataset) -> Choices:
    """Return the method and what it needs."""
    if dataset.multilabel:
        return {
            "method": Choice("fedloge_ml", "images have several labels, or none"),
            "head-bias": Choice(True, "with several labels an image every class needs one"),
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


def choose_model(dataset: Dataset, device: torch.device) -> Choices:
    """Return the backbone for this machine, wide enough for the classes' frame."""
    classes = len(dataset.classes)
    if device.type == "cuda":
        return {"backbone": Choice("resnet18", "512 features; for a GPU")}
    width = max(16, -(-classes // 2))
    return {
        "backbone": Choice("cnn", "three layers: quick on a CPU; resnet18 needs a GPU"),
        "width": Choice(width, f"{4 * width} features for {classes} classes"),
        "channels-last": Choice(True, "faster on a CPU, the same up to rounding"),
    }


def choose_training(keys: dict[str, Any], dataset: Dataset, sites: int, device: torch.device) -> Choices:
    """Return batch size, epochs and the rounds that this machine does in ten minutes or so.

    Args:
        keys: of the experiment so far.
        dataset: its images.
        sites: how many there are.
        device: what trains.
    """
    a_site = len(dataset.train) / sites
    batch = 16 if a_site < 1000 else 32
    chosen: Choices = {
        "local-epochs": Choice(2, "passes over a site's images each round"),
        "batch-size": Choice(batch, f"about {max(1, round(a_site / batch))} steps an epoch at a site of mean size"),
    }
    experiment = build(keys | {key: choice.value for key, choice in chosen.items()}, source="what was chosen")
    image = seconds_an_image(experiment, dataset, device)
    side_by_side = 1 if device.type == "cuda" else min(os.cpu_count() or 1, sites)
    a_round = (len(dataset.train) * 2 * image + sites * _MESSAGE) / side_by_side
    rounds = int(np.clip(_TEN_MINUTES / a_round, _FEWEST, _MOST))
    minutes = max(1, round(rounds * a_round / 60))
    where = f"{os.cpu_count()} processors" if device.type == "cpu" else device.type
    chosen["rounds"] = Choice(
        rounds, f"about {a_round:.1f} s each, {minutes} minutes in all, on this machine's {where}"
    )
    chosen["evaluate-every"] = Choice(max(1, rounds // 10), "rounds between evaluations")
    return chosen


def seconds_an_image(experiment: Experiment, dataset: Dataset, device: torch.device, steps: int = 3) -> float:
    """Return what one image costs in training, measured on batches of zeros with one thread, as a site trains."""
    model = build_model(experiment.replace(method="fedavg"), dataset.train.channels, len(dataset.classes))
    backbone = model.backbone.to(device).train()
    shape = (experiment.train.batch_size, dataset.train.channels, *dataset.train.size)
    images, threads = torch.zeros(shape, device=device), torch.get_num_threads()
    torch.set_num_threads(experiment.run.threads or threads)
    try:
        for step in range(steps + 1):
            if step == 1:  # the first one warms up
                start = time.perf_counter()
            backbone(images).sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
    finally:
        torch.set_num_threads(threads)
    return (time.perf_counter() - start) / (steps * experiment.train.batch_size)
