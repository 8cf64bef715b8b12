"""What a site's machine can do: its device, its memory and disk, and the time of one batch."""

import ctypes
import os
import tempfile
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from client_app.methods import OwnImages
from client_app.methods import load as load_method
from client_app.site.config import SiteConfig
from client_app.site.device import first_line
from client_app.site.site import Site
from client_app.training.loop import local_context, train_site
from common.config import Experiment
from common.data import Dataset, Federation
from common.data.images.pixel_cache import cache_bytes, free_bytes
from common.data.images.source import ArrayImages, Labels
from common.errors import UserError
from common.files import private_folder
from common.models.memory import check_memory, total_memory
from common.models.model import Model, build_model, feature_dim, frame_kind

_BYTES = 2**30
_MODEL_BYTES = 2**27
_CLOCK_NOT_KEPT = 5  # TIME_ERROR of adjtimex


def describe_device(device: torch.device, config: SiteConfig) -> dict[str, Any]:
    """Return a device's name and what is free, in GiB: of its memory, and the machine's."""
    facts: dict[str, Any] = {"name": device.type, "cpus": os.cpu_count(), "torch": torch.__version__}
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        facts |= {"name": torch.cuda.get_device_name(), "gpu_gib": _gib(total), "gpu_free_gib": _gib(free)}
    return facts | {"memory_gib": _gib(total_memory())}


def describe_cache(config: SiteConfig, num_bytes: int) -> dict[str, Any]:
    """Return where decoded images lie, and bytes: of this experiment's (0: not known), of those there, and free."""
    there, free = cache_bytes(config.cache), free_bytes(config.cache)
    return {"folder": str(config.cache), "needed_bytes": num_bytes, "there_bytes": there, "free_bytes": free}


def check_disk(config: SiteConfig, num_bytes: int) -> None:
    """Raise `UserError` unless the site's folders can be written, with room for decoded images of so many bytes.

    Where there are decoded images already, room for a model is enough.
    """
    decoded = 0 if cache_bytes(config.cache) else num_bytes
    for key, folder, needed in (("state-dir", config.state_dir, 0), ("cache", config.cache, decoded)):
        try:
            private_folder(folder)
            with tempfile.TemporaryFile(dir=folder) as probe:
                os.posix_fallocate(probe.fileno(), 0, needed + _MODEL_BYTES)
        except OSError as error:
            raise UserError(
                f"{key} = '{folder}': {_gib(needed + _MODEL_BYTES)} GiB cannot be written there ({error.strerror}); "
                "free space, choose another folder, or look at its owner"
            ) from None


def clock_warning() -> str:
    """Return what is odd about this machine's clock, or nothing: Linux knows whether something keeps it right."""
    try:  # with a structure of zeros it is only read
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return ""
    if state != _CLOCK_NOT_KEPT:
        return ""
    return "nothing keeps this machine's clock right: 5 s ahead or 305 s behind, the coordinator refuses it; use NTP"


def time_batch(experiment: Experiment, channels: int, device: torch.device) -> dict[str, Any]:
    """Train the experiment's model on one batch of noise and return the seconds it took, after a first to warm up.

    Where nothing trains, that is what the batch's extras take.

    Raises:
        UserError: the model does not fit in memory, or the device cannot do it.
    """
    side = experiment.data.image_size or 32
    check_memory(experiment, channels, (side, side), device)
    method, images = load_method(experiment.method), experiment.train.batch_size
    site = _site_of_noise(experiment, channels)
    phases = tuple(replace(phase, epochs=1) for phase in method.phases(experiment)[:1])
    try:
        model = random_model(experiment, channels, device, site.name)
        local, seconds = local_context(model, method, site), 0.0
        for _ in range(2):
            start = time.perf_counter()
            if phases:
                train_site(model, method, site, 0, phases=phases)
            else:
                method.extras(model, OwnImages(site.dataset, site.train_rows), local)
            seconds = time.perf_counter() - start
        peak = _gib(torch.cuda.max_memory_allocated()) if device.type == "cuda" else None
    except RuntimeError as error:
        raise UserError(f"one batch of {images} images cannot be trained ({first_line(error)})") from None
    return {"images": images, "seconds": round(seconds, 4), "gpu_peak_gib": peak}


def random_model(experiment: Experiment, channels: int, device: torch.device, site: str) -> Model:
    """Return the experiment's model with random weights and a random frame, as a site begins with it."""
    num_classes, frame = len(experiment.data.classes or ()), None
    torch.set_num_threads(experiment.run.threads or torch.get_num_threads())
    if frame_kind(experiment):
        dim = feature_dim(build_model(experiment, channels, num_classes).backbone)
        frame = normalize(torch.randn(num_classes, dim, generator=torch.Generator().manual_seed(0)))
    model = build_model(experiment, channels, num_classes, frame, site=site)
    load_method(experiment.method).start(model)
    return model.to(device)


def _site_of_noise(experiment: Experiment, channels: int) -> Site:
    """Return a site with one batch of the experiment's images, which are noise."""
    images, size = experiment.train.batch_size, experiment.data.image_size or 32
    classes = experiment.data.classes or ()
    rng, num_classes = np.random.default_rng(0), len(classes)
    pixels = rng.integers(0, 256, (images, channels, size, size), dtype=np.uint8)
    labels: Labels = rng.integers(0, num_classes, images)
    if experiment.agreed_labels == "many":
        labels = rng.random((images, num_classes)) < 0.5
    source = ArrayImages(pixels, labels)
    dataset = Dataset("noise", classes, source, source, (0.5,) * channels, (0.25,) * channels)
    rows, none = np.arange(images, dtype=np.int64), np.empty(0, np.int64)
    return Site("check", experiment, Federation(dataset, ("check",), (rows,), (none,)), rows, none)


def _gib(size: int) -> float:
    return round(size / _BYTES, 2)
