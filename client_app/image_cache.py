"""A site's decoded images on its own disk, as one memory map, so that no later round or process decodes them again.

A cache belongs to its files' names, sizes and times of change, to the size of the images and to their channels: what
changes any of them is decoded anew. The folder is readable by the site's user alone.
"""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np
import torch

from common.data.bad_images import BadImagesError
from common.data.images import ArrayImages, ImageSource, Labels, Pixels, Rows
from common.errors import UserError
from common.files import private_folder

log = logging.getLogger("fednc")

_DECODING = 2  # to be raised where `common/data/decoding.py` makes other pixels of the same file
_CHUNK = 256  # images that wait in memory to be written
_KEPT = 3  # caches of other sizes or of older files; the one used longest ago goes first
_STALE = 24 * 3600  # seconds after which an unfinished file is a crash's


def cached(source: ImageSource, names: Sequence[str], paths: Sequence[Path], folder: Path) -> ImageSource:
    """Return the same images from the cache, which is made or made again where need be.

    Args:
        source: N ≥ 1 images, decoded when asked for.
        names: [N], of the files, which may move together with their folder.
        paths: [N], theirs.
        folder: of the cache; made if absent.

    Returns:
        A source that reads a memory map; or `source` itself, with a line in the log, where the folder cannot be
        written or the disk is full.

    Raises:
        BadImagesError: images that cannot be decoded, all by name.
    """
    shape = (len(source), source.channels, *source.size)
    try:
        path = folder / f"{_key(shape, names, paths)}.npy"
        if (pixels := _read(path, shape)) is None:
            log.info("decoding %d images once, into %s", len(source), folder)
            _write(path, source, shape)
            _tidy(folder)
            pixels = _read(path, shape)
    except OSError as error:
        log.warning("decoded images are not kept in %s (%s): each process decodes them again", folder, error.strerror)
        return source
    return source if pixels is None else ArrayImages(pixels, source.labels)


class LaterImages:
    """Images that can only be decoded together, and are so when the first of them is asked for.

    Args:
        labels: [N] or [N, C].
        channels: 1 or 3.
        size: (H, W) in pixels.
        decode: returns uint8 [N, channels, H, W].
    """

    def __init__(self, labels: Labels, channels: int, size: tuple[int, int], decode: Callable[[], Pixels]) -> None:
        self.labels, self.channels, self.size = labels, channels, size
        self._decode, self._lock = decode, Lock()
        self._pixels: Pixels | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Rows) -> torch.Tensor:
        """Return the images of these rows as uint8 [B, C, H, W]."""
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode()
        return torch.from_numpy(self._pixels[rows])


def _key(shape: tuple[int, ...], names: Sequence[str], paths: Sequence[Path]) -> str:
    stats = [path.stat() for path in paths]
    files = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(names, stats, strict=True)]
    return hashlib.sha256(json.dumps([_DECODING, shape, files]).encode()).hexdigest()[:32]


def _read(path: Path, shape: tuple[int, ...]) -> Pixels | None:
    """Return the memory map, or None where it is absent or damaged."""
    if not path.exists():
        return None
    try:
        pixels: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception:  # a damaged header may say anything
        pixels = np.empty(0, np.uint8)
    if pixels.shape != shape or pixels.dtype != np.uint8:
        log.warning("%s is damaged: the images are decoded again", path)
        return None
    os.utime(path)
    return pixels


def _write(path: Path, source: ImageSource, shape: tuple[int, ...]) -> None:
    """Write the cache so that a crash leaves none or a whole one."""
    private_folder(path.parent)
    # of this process alone, and readable by its user alone
    with tempfile.NamedTemporaryFile(suffix=".part", dir=path.parent, delete=False) as file:
        part = Path(file.name)
        try:
            _write_pixels(file, source, shape)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _write_pixels(file: IO[bytes], source: ImageSource, shape: tuple[int, ...]) -> None:
    # Written one after another: a full disk is then an error, whereas a memory map of it would kill the process.
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    failures = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, shape[0], _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, shape[0]))
            for row, image in zip(rows.tolist(), pool.map(lambda row: _decoded(source, row), rows), strict=True):
                if isinstance(image, UserError):
                    failures.append((row, str(image)))
                else:
                    file.write(image.numpy().tobytes())
    if failures:
        raise BadImagesError(failures, shape[0])


def _decoded(source: ImageSource, row: np.int64) -> torch.Tensor | UserError:
    try:
        return source.batch(np.array([row]))
    except BadImagesError:
        raise
    except UserError as error:
        return error


def _tidy(folder: Path) -> None:
    caches = sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_mtime, reverse=True)
    unfinished = [path for path in folder.glob("*.part") if time.time() - path.stat().st_mtime > _STALE]
    for path in (*caches[1 + _KEPT :], *unfinished):
        path.unlink(missing_ok=True)
