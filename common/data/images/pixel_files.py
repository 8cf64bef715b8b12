"""The files of a cache of decoded images: written whole or not at all, mapped, locked and cleared away."""

import fcntl
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from common.data.images.decode_all import log_unless_silenced
from common.data.images.source import Pixels

STALE = 24 * 3600  # seconds after which an unfinished file is a crash's
_FORGOTTEN = 90 * 24 * 3600  # seconds after which nobody asks for a set of images again


@contextmanager
def temporary_file(folder: Path, stem: str) -> Iterator[Any]:
    """Yield a new file of this process, readable by its user alone, that only `commit_file` leaves there."""
    with tempfile.NamedTemporaryFile(prefix=f"{stem}.", suffix=".part", dir=folder, delete=False) as file:
        try:
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)


@contextmanager
def exclusive_lock(folder: Path, stem: str) -> Iterator[None]:
    """Wait until no other process decodes these images; clear away what a killed one left of them."""
    lock = folder / f"{stem}.lock"
    with os.fdopen(os.open(lock, os.O_CREAT | os.O_RDWR, 0o600), "r+b") as file:
        os.utime(lock)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a process that dies gives it back
        except BlockingIOError:
            log_unless_silenced(logging.INFO, "another process decodes these images into %s: waiting for it", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # some shares of a network: two processes may then do the same work
            yield
            return
        for part in folder.glob(f"{stem}.*.part"):
            part.unlink(missing_ok=True)
        yield


def known_pixels(others: Sequence[Path], wanted: set[bytes], shape: tuple[int, ...]) -> dict[bytes, Pixels]:
    """Return the pixels that other sets of the same transform have of wanted hashes."""
    known: dict[bytes, Pixels] = {}
    for path in others:
        digests = path.read_bytes()
        rows = [digests[start : start + 32] for start in range(0, len(digests), 32)]
        if (pixels := map_pixels(path.with_suffix(".npy"), (len(rows), *shape))) is not None:
            plain = np.asarray(pixels)
            known |= {digest: plain[row] for row, digest in enumerate(rows) if digest in wanted}
    return known


def map_pixels(path: Path, shape: tuple[int, ...]) -> Pixels | None:
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
        log_unless_silenced(logging.WARNING, "%s is damaged: the images are decoded again", path)
        with suppress(OSError):
            path.unlink()
        return None
    with suppress(OSError):
        os.utime(path)  # used just now
    return pixels


def write_header(file: Any, shape: tuple[int, ...]) -> None:
    """Write the header of an .npy file of uint8; it is as long for any number of images."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def commit_file(file: Any, path: Path) -> None:
    """Give a finished file its name, which a crash or a power cut leaves to whole files alone."""
    file.flush()
    os.fsync(file.fileno())
    Path(file.name).replace(path)


def tidy(folder: Path, kept: int) -> None:
    """Remove the sets used longest ago, what belongs to no set, and what crashes left."""
    remove_oldest(folder.glob("*.npy"), kept, "sets of decoded images")
    for path in folder.glob("*.sha256"):
        if not path.with_suffix(".npy").exists():
            path.unlink(missing_ok=True)
    remove_stale(folder, {".part": STALE, ".json": _FORGOTTEN, ".lock": _FORGOTTEN})


def remove_oldest(entries: Iterable[Path], kept: int, kind: str) -> None:
    """Remove all but the newest `kept` files or folders, with a line of the log for each; `kind`: what they are."""
    times = {path: path.stat().st_mtime for path in entries}
    for path in sorted(times, key=lambda path: times[path], reverse=True)[kept:]:
        log_unless_silenced(logging.INFO, "%s is removed: %d other %s were used since", path, kept, kind)
        _remove(path)


def remove_stale(folder: Path, ages: Mapping[str, float]) -> None:
    """Remove what is older in a folder than the seconds that its suffix may be; other suffixes stay."""
    now = time.time()
    for path in folder.iterdir():
        with suppress(OSError):
            if now - path.stat().st_mtime > ages.get(path.suffix, math.inf):
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
