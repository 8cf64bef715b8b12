"""What an experiment with a frozen trunk will cost a site: time, disk and traffic, the first round's and a later one's.

The trunk's output of a few of the site's own images is computed and trained on, on the site's device, with random
weights: the coordinator's have not come yet, and time does not depend on them. What is computed is thrown away.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from client_app.methods import LocalMethod
from client_app.methods import load as load_method
from client_app.methods.base import OwnImages, Phase
from client_app.preflight.machine import random_model
from client_app.site.config import SiteConfig
from client_app.site.device import first_line
from client_app.site.site import Site
from client_app.training.loop import local_context, train_site
from common.config import Experiment
from common.data import Dataset, Federation
from common.data.images.decode_all import silenced
from common.data.images.pixel_cache import free_bytes
from common.data.images.source import ArrayImages
from common.errors import UserError
from common.methods import METHODS
from common.models.features import extract_features
from common.models.model import Model, coordinator_state, fixed_state, shared_state
from common.models.trunk import trunk_of
from common.models.trunk_cache import cache_bytes, kept_values, use_trunk_cache
from common.precision import to_wire_precision

_STEP = 32  # images that go through the trunk at once
_STEPS = 5  # such at most
_ENOUGH = 5.0  # seconds of them
_STILL = 1e-9  # a learning rate at which random weights do not diverge


def expect_rounds(config: SiteConfig, experiment: Experiment, dataset: Dataset, device: torch.device) -> dict[str, Any]:
    """Return what a run will cost this site, as JSON values.

    Args:
        config: the site's.
        experiment: with `train-from`.
        dataset: the site's images, one or more to train on.
        device: the site's.

    Returns:
        `cached_images` whose trunk's output is kept (0: none is) in `cache_folder`, `cache_bytes` that it takes, of
        `free_bytes`; `fill_seconds` to compute it, once; `round_seconds` of a later round; bytes of the coordinator's
        `first_bytes` message and a later one (`later_bytes`), and of a reply (`reply_bytes`).

    Raises:
        UserError: the device cannot do it, for example for lack of memory.
    """
    method = load_method(experiment.method)
    try:
        model = random_model(experiment, dataset.train.channels, device, config.name)
        use_trunk_cache(model, experiment, config.trunks)
        rows = _cached_rows(model, experiment, dataset)
        filling, training, evaluating, extras = _measure(model, method, experiment, dataset)
    except RuntimeError as error:
        raise UserError(f"{_STEP} images cannot be trained ({first_line(error)})") from None
    return {
        "cached_images": rows,
        "cache_folder": str(config.trunks),
        "cache_bytes": cache_bytes(model, dataset.train, rows, dataset) if rows else 0,
        "free_bytes": free_bytes(config.cache),
        "fill_seconds": round(rows * filling, 2),
        "round_seconds": round(len(dataset.train) * training + len(dataset.test) * evaluating, 2),
        **_traffic(model, experiment, extras),
    }


def _cached_rows(model: Model, experiment: Experiment, dataset: Dataset) -> int:
    """Return of how many images, or views of them, the trunk's output is kept."""
    body = trunk_of(model)
    if body is None or body.trunk_cache is None:
        return 0
    return kept_values(experiment, len(dataset.train), len(dataset.test))


def _measure(
    model: Model, method: LocalMethod, experiment: Experiment, dataset: Dataset
) -> tuple[float, float, float, int]:
    """Return an image's seconds in the trunk, in what a round makes of it, and in an evaluation; and extras' bytes."""
    rows = np.arange(min(len(dataset.train), _STEP * _STEPS), dtype=np.int64)
    kept = experiment.model.trunk_precision
    # random weights may leave the range of fp16; bf16 takes as long
    keys = experiment.replace(trunk_precision="bf16") if kept == "fp16" else experiment
    with tempfile.TemporaryDirectory(prefix="fednc-") as folder, silenced():
        sample = replace(dataset, train=ArrayImages(dataset.train.batch(rows).numpy(), dataset.train.labels[rows]))
        use_trunk_cache(model, keys, Path(folder))
        filling, rows = _fill(model, sample, rows)
        site = Site("check", keys, Federation(sample, ("check",), (rows,), (rows[:0],)), rows, rows[:0])
        own = OwnImages(sample, rows)
        start, extras = time.perf_counter(), method.extras(model, own, local_context(model, method, site))
        training = time.perf_counter() - start
        training += sum(phase.epochs * _timed(_epoch(model, method, site, phase)) for phase in method.phases(keys))
        backbone = method.personal_backbone(model)
        evaluating = _timed(lambda: extract_features(backbone, sample.train, rows, sample)[0].cpu())
    return filling, training / len(rows), evaluating / len(rows), _bytes(extras)


def _fill(model: Model, sample: Dataset, rows: npt.NDArray[np.int64]) -> tuple[float, npt.NDArray[np.int64]]:
    """Return the seconds of an image in the trunk, and the images that went through it within a few seconds."""
    body = trunk_of(model)
    if body is None or body.trunk_cache is None:
        return 0.0, rows
    taken: list[tuple[float, int]] = []
    for start in range(0, len(rows), _STEP):
        step = rows[start : start + _STEP]
        taken.append((_timed(partial(body.trunk_cache.outputs, body, sample.train, step, sample)), len(step)))
        if len(taken) > 1 and sum(seconds for seconds, _ in taken) > _ENOUGH:
            break
    warm = taken[1:] or taken  # the first one warms up
    return sum(seconds for seconds, _ in warm) / sum(images for _, images in warm), rows[: sum(n for _, n in taken)]


def _epoch(model: Model, method: LocalMethod, site: Site, phase: Phase) -> Callable[[], object]:
    """Return what trains an epoch of a phase, of which one was done to warm up."""
    once = (replace(phase, epochs=1),)
    train_site(model, method, site, 0, phases=once, learning_rate=_STILL)
    return partial(train_site, model, method, site, 0, phases=once, learning_rate=_STILL)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _traffic(model: Model, experiment: Experiment, extras: int) -> dict[str, int]:
    """Return the bytes of the messages' arrays; beside them is a kilobyte or so of words."""
    row = METHODS[experiment.method]
    shared = _bytes(to_wire_precision(shared_state(model, row), experiment))
    later = shared + _bytes(to_wire_precision(coordinator_state(model, row), experiment))
    once = _bytes(fixed_state(model, row, experiment)) + (0 if model.frame is None else model.frame.nbytes)
    return {"first_bytes": later + once, "later_bytes": later, "reply_bytes": shared + extras}


def _bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> int:
    return sum(array.nbytes for array in arrays.values())
