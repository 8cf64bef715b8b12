"""What the generic model begins with: pretrained weights, and stages that stand still."""

import torch

from common.architectures import NO_WEIGHTS
from common.config import Experiment
from common.data import Federation
from common.data.images.decode_all import format_bytes
from common.data.images.pixel_cache import free_bytes
from common.methods import METHODS
from common.models.model import Model
from common.models.trunk_cache import cache_bytes, kept_values, trunk_folder
from common.models.weights import load_weights
from server_app.run.journal import Journal, log


def start_from_weights(model: Model, experiment: Experiment, journal: Journal, *, log_it: bool) -> None:
    """Put pretrained weights into the backbone, if the experiment has any; say so in the log and the journal."""
    if experiment.model.weights == NO_WEIGHTS:
        return
    loaded = load_weights(model.backbone, experiment)
    if log_it:
        log.info("backbone from %s: %d arrays, SHA-256 %s", loaded.source, loaded.arrays, loaded.sha256[:16])
        if loaded.attention:
            log.info("label-aware attention from there too: %s", ", ".join(loaded.attention))
        if loaded.anew:
            log.info("label-aware attention begins anew: %s", loaded.anew)
        if loaded.unused:
            log.info("not taken from there: %s", ", ".join(loaded.unused))
        facts = {"file": loaded.source.name, "sha256": loaded.sha256, "arrays": loaded.arrays}
        journal.event("weights", round=0, **facts, attention=list(loaded.attention), unused=list(loaded.unused))


def warn_of_local_statistics(experiment: Experiment) -> None:
    """Say what a generic model lacks whose statistics stay at the sites."""
    if experiment.model.norm == "local" and METHODS[experiment.method].generic_head:
        log.warning("norm = local: BatchNorm's statistics stay at the sites; the generic model has those of the start")


def warn_of_slow_precision(experiment: Experiment, device: torch.device) -> None:
    """Say that half precision is no gain on a CPU."""
    if experiment.model.precision == "fp16" and device.type == "cpu":
        log.warning("precision = fp16: on a CPU right, but about ten times slower than fp32; bf16 is faster on both")


def announce_sums(experiment: Experiment, size: int) -> None:
    """Log what a site sends where nothing trains, in place of weights."""
    row = METHODS[experiment.method]
    if not row.trains:
        log.info("nothing trains: each site sends %s once, %s", ", ".join(row.extras), format_bytes(size))


def announce_trunk(model: Model, experiment: Experiment, federation: Federation) -> None:
    """Log what simulated sites and the coordinator will compute once and keep; real sites log their own."""
    train, dataset = sum(map(len, federation.train_rows)), federation.dataset
    images, kept = dataset.train if train else dataset.test, kept_values(experiment, train, len(dataset.test))
    if len(images) and (size := cache_bytes(model, images, kept, dataset)):
        folder = trunk_folder(experiment)
        log.info(
            "stages before %s stand still: what they make of %s images is computed once, %s in %s (%s free)%s",
            experiment.train_from, f"{kept:,}", format_bytes(size), folder, format_bytes(free_bytes(folder)),
            "" if kept >= train + len(dataset.test) else "; of training images, which change in each epoch, each time",
        )  # fmt: skip
