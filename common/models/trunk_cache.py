"""What a trunk makes of images, computed once and read in every round, run and process that need it again.

It lies in files (`trunk_files.py`) below one folder, which may be deleted whenever nothing runs: a simulation's beside
decoded images, for all sites and all runs of a comparison; a real site's in its own cache. The machine's memory holds
what of the files is in use. Where they cannot be written, this process keeps it in memory, up to `trunk-memory`; beyond
that it is computed each time, and a line of the log says so.

A cache is named by all that decides its content: the trunk's weights and architecture, the images, how pixels are
scaled, the device's kind and PyTorch's version. One of another trunk is never read.
"""

import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from common.config import Experiment
from common.data import Dataset, ImageSource
from common.data.images.decode_all import format_bytes, log_unless_silenced
from common.data.images.pixel_cache import cache_folder, content_name
from common.data.images.resident import BatchSlices
from common.data.images.source import Rows
from common.data.images.transforms import Scaling
from common.data.images.views import Views, views_of
from common.methods import METHODS
from common.models.backbones import Backbone
from common.models.trunk import check_finite, through_trunk, trunk_digest, trunk_of
from common.models.trunk_files import Layout, MemoryStore, Store, TrunkFiles

_FILL_BATCH = 256  # images a forward pass
_CPU_BATCH = 32  # on a CPU, whose caches hold the maps of so many: twice as fast as 256 at 128 pixels
_PAUSE = 10.0  # seconds between two lines of progress
_RESIDENT = 1 << 31  # bytes of a training pass that are sent to a device at once
_SYNCED = 1 << 28  # bytes after which what was computed is made safe from a crash
_OPENED = 8  # stores that a process keeps open

_stores: OrderedDict[tuple[Path, str], Store | None] = OrderedDict()
_lock = threading.Lock()
_digests: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


@dataclass(frozen=True)
class TrunkCache:
    """Where a process keeps what trunks make of images, and how exactly.

    Attributes:
        folder: of the files; made if absent.
        precision: of the kept values: fp32, fp16 or bf16.
        memory: bytes that the process keeps in memory where files cannot be written.
        announces: whether the log says beforehand how large new files get.
    """

    folder: Path
    precision: str = "fp32"
    memory: int = 0
    announces: bool = False

    def outputs(
        self, body: Backbone, images: ImageSource, rows: Rows, dataset: Dataset, views: Views | None = None
    ) -> "TrunkOutputs | None":
        """Return what the body's trunk makes of some images, computed where that was not done yet.

        Args:
            body: with a trunk, in any mode.
            images: `dataset.train` or `dataset.test`.
            rows: which of its images, or of their views.
            dataset: for the mean and standard deviation of its pixels.
            views: fixed ones, whose numbers `rows` are; None: the images as they are.

        Returns:
            None where there is no room for it: the caller then computes it.

        Raises:
            UserError: the trunk's output is not finite, or too large for `precision`.
        """
        if not len(rows):
            return None
        with _evaluating(body):
            store = self._store(body, images, dataset, views)
            if store is not None:
                store = self._filled(store, rows, partial(fill, body=body, images=images, dataset=dataset, views=views))
        return None if store is None else TrunkOutputs(store, next(body.parameters()).device)

    def _store(self, body: Backbone, images: ImageSource, dataset: Dataset, views: Views | None) -> Store | None:
        device = next(body.parameters()).device
        scaling = [list(dataset.mean), list(dataset.std)]
        facts: list[Any] = [
            trunk_digest(body),
            _content(images),
            scaling,
            self.precision,
            device.type,
            torch.__version__,
        ]
        facts += [asdict(views)] if views else []
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        with _lock:
            return self._opened(name, body, images, dataset, views.count if views else 1)

    def _opened(self, name: str, body: Backbone, images: ImageSource, dataset: Dataset, views: int) -> Store | None:
        if (self.folder, name) not in _stores:
            layout = Layout((views * len(images), *_shape(body, images, dataset)), self.precision)
            _stores[self.folder, name] = self._open(name, layout)
        _stores.move_to_end((self.folder, name))
        while len(_stores) > _OPENED:
            _stores.popitem(last=False)
        return _stores[self.folder, name]

    def _open(self, name: str, layout: Layout) -> Store | None:
        try:
            return TrunkFiles(self.folder, name, layout, self.announces)
        except OSError as error:
            return self._in_memory(layout, error)

    def _in_memory(self, layout: Layout, error: OSError) -> Store | None:
        held = sum(store.layout.num_bytes for store in _stores.values() if isinstance(store, MemoryStore))
        fits = held + layout.num_bytes <= self.memory
        what = (
            "it is kept in memory, and each process computes it again"
            if fits
            else f"it takes {format_bytes(layout.num_bytes)}, more than trunk-memory, and is computed each time"
        )
        log_unless_silenced(
            logging.WARNING,
            "what the backbone's frozen part makes of images cannot be kept in %s (%s): %s",
            self.folder, error.strerror or error, what,
        )  # fmt: skip
        return MemoryStore(layout) if fits else None

    def _filled(self, store: Store, rows: Rows, complete: Callable[[Store, Rows], None]) -> Store | None:
        try:
            complete(store, rows)
        except OSError as error:
            fallback = self._in_memory(store.layout, error)
            with _lock:
                _stores.update(dict.fromkeys([name for name, opened in _stores.items() if opened is store], fallback))
            if fallback is not None:
                complete(fallback, rows)
            return fallback
        return store


def use_trunk_cache(model: nn.Module, experiment: Experiment, folder: Path | None = None) -> None:
    """Let a model read what its trunk makes of images from a cache, where the experiment says so.

    Args:
        model: in which nothing else changes.
        experiment: the run.
        folder: of a real site's caches, who announces them; by default beside decoded images.
    """
    keys, cache = experiment.model, None
    if experiment.train_from is not None and keys.trunk_cache:
        where, memory = folder or trunk_folder(experiment), keys.trunk_memory << 20
        cache = TrunkCache(where, keys.trunk_precision, memory, announces=folder is not None)
    for body in (part for part in model.modules() if isinstance(part, Backbone)):
        body.trunk_cache = cache


def trunk_folder(experiment: Experiment) -> Path:
    """Return where a simulation keeps what trunks make of images: beside decoded images."""
    return cache_folder(experiment) / "trunks"


def kept_values(experiment: Experiment, train: int, test: int) -> int:
    """Return how many values a cache keeps of so many training and test images: of views there are several an image."""
    keys, views = experiment.train, views_of(experiment)
    if not METHODS[experiment.method].trains:  # no image is ever changed
        kept = train
    elif keys.mixup or keys.cutmix:  # others in each epoch
        kept = 0
    elif views:
        kept = views.count * train
    else:
        kept = train if keys.augment == "none" else 0
    again = train if kept != train and experiment.personalise.finetune_epochs else 0
    return test + kept + again


def cache_bytes(model: nn.Module, images: ImageSource, rows: int, dataset: Dataset) -> int:
    """Return the bytes that a model's cache takes for so many of some images, of which there is one; 0 without one."""
    body = trunk_of(model)
    if body is None or body.trunk_cache is None:
        return 0
    with _evaluating(body):
        return Layout((rows, *_shape(body, images, dataset)), body.trunk_cache.precision).num_bytes


class TrunkOutputs:
    """What a trunk makes of images, all of them there.

    Args:
        store: that has them.
        device: to which they go.
    """

    def __init__(self, store: Store, device: torch.device) -> None:
        self._store, self._device = store, device

    def slices(self, rows: Rows) -> Callable[[slice], Tensor]:
        """Return what takes a slice of the rows to float32 [b, ...] on the device."""
        host = self._device.type == "cpu"
        if host or len(rows) * self._store.layout.row_bytes > _RESIDENT:
            return lambda part: self._store.read(rows[part]).to(self._device).float()
        everything = self._store.read(rows).to(self._device)  # at once: each transfer makes the processor wait
        return lambda part: everything[part].float()


def fill(
    store: Store, rows: Rows, *, body: Backbone, images: ImageSource, dataset: Dataset, views: Views | None
) -> None:
    """Compute what a store lacks of some rows, or views; arguments as of `TrunkCache.outputs`.

    Raises:
        OSError: its disk is full, or cannot be written.
        UserError: an output is not finite, or too large for the store's precision.
    """
    missing = store.lacking(rows)
    if not len(missing):
        return
    store.check_room(len(missing))
    device = next(body.parameters()).device
    batch, scale = BatchSlices(images, missing % len(images), device), Scaling(dataset.mean, dataset.std, device)
    began, safe = time.monotonic(), 0
    last = began
    size = _CPU_BATCH if device.type == "cpu" else _FILL_BATCH
    for start in range(0, len(missing), size):
        part = slice(start, start + size)
        pixels = batch.pixels(part)
        if views:
            pixels = views.apply(pixels, missing[part], len(images))
        values = store.layout.cast(through_trunk(body, scale(pixels)))
        check_finite(values, store.layout.precision)
        store.write(missing[part], values.cpu())
        done = min(part.stop, len(missing))
        if (done - safe) * store.layout.row_bytes >= _SYNCED or done == len(missing):
            store.commit(missing[safe:done])
            safe = done
        if (now := time.monotonic()) - last >= _PAUSE and done < len(missing):
            last = now
            log_unless_silenced(
                logging.INFO, "the backbone's frozen part: %s of %s images, about %.0f s to go",
                f"{done:,}", f"{len(missing):,}", (now - began) / done * (len(missing) - done),
            )  # fmt: skip


def _shape(body: Backbone, images: ImageSource, dataset: Dataset) -> torch.Size:
    """Return the shape of what a trunk makes of an image."""
    device = next(body.parameters()).device
    one = BatchSlices(images, np.zeros(1, np.int64), device).pixels(slice(0, 1))
    return through_trunk(body, Scaling(dataset.mean, dataset.std, device)(one)).shape[1:]


def _content(images: ImageSource) -> str:
    """Return a hash of what images there are; of files their paths, sizes and times, as the cache of pixels has it."""
    if images not in _digests:
        digest = hashlib.sha256(repr((len(images), images.channels, images.size)).encode())
        for content in [name.encode()] if (name := content_name(images)) else _pixels(images):
            digest.update(content)
        _digests[images] = digest.hexdigest()
    return _digests[images]


def _pixels(images: ImageSource) -> Iterator[bytes]:
    for start in range(0, len(images), _FILL_BATCH):
        yield images.batch(np.arange(start, min(start + _FILL_BATCH, len(images)))).contiguous().numpy().tobytes()


@contextmanager
def _evaluating(body: nn.Module) -> Iterator[None]:
    """Let a body's every part use its statistics: all BatchNorms of a trunk do so anyway."""
    before = body.training
    body.eval()
    try:
        yield
    finally:
        body.train(before)
