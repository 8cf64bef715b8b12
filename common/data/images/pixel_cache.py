"""Decoded images on disk, memory-mapped: later runs, other seeds and other processes decode nothing again.

A folder of its user alone (0700, its files 0600: the pixels of patients may lie there), which may be deleted whenever
nothing runs. It holds, of each set of images,

    <transform>-<content>.npy     uint8 [n, channels, H, W] of those that can be decoded; complete where it is there
    <transform>-<content>.sha256  n × 32 bytes: the hash of what each of them was decoded from
    <files>.json                  for files of these paths, sizes and times: which set they are, and what cannot be
                                  decoded of them
    <files>.lock                  held by the process that decodes them; the system gives it back when that dies

What decides is content and transform: files that were moved or touched are read and hashed, and decoded only where
no set of the same transform has what they hold. A change that leaves path, size and both times of a file as they were
is not noticed.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from PIL import features

from common.config import Experiment
from common.data.images.bad_images import Failure
from common.data.images.decode_all import decode_all, format_bytes, log_unless_silenced
from common.data.images.encoded import EncodedImages
from common.data.images.pixel_files import (
    commit_file,
    exclusive_lock,
    known_pixels,
    map_pixels,
    temporary_file,
    tidy,
    write_header,
)
from common.data.images.source import ArrayImages, ImageSource, Pixels
from common.errors import UserError
from common.files import private_folder
from common.paths import default_dir

KEPT = 16  # sets of images in a folder; the one used longest ago goes first

_SPARE = 1 << 26  # bytes of a disk that are left free


class Encoded(ImageSource, Protocol):
    """N image files that become pixels one by one; see `EncodedImages`."""

    @property
    def transform(self) -> str: ...  # noqa: D102
    @property
    def num_bytes(self) -> int: ...  # noqa: D102
    def content(self, row: int) -> bytes: ...  # noqa: D102
    def decode(self, row: int, content: bytes) -> Pixels: ...  # noqa: D102
    def marks(self) -> list[Any]: ...  # noqa: D102


def cached(source: Encoded, folder: Path, kept: int = KEPT) -> tuple[ImageSource, list[Failure]]:
    """Return the same images from the cache, which is made where need be, and which of them cannot be decoded.

    Args:
        source: N ≥ 1 images.
        folder: of the cache; made if absent.
        kept: how many sets stay in the folder.

    Returns:
        A source that reads a memory map, and no failure; or, if there are failures, `source` itself and their rows and
        reasons. `source` and no failure, with a line in the log, where the folder cannot be written or has no room.
    """
    try:
        pixels, failures = _ImageSet(source, folder).pixels(kept)
    except OSError as error:
        reason = error.strerror or str(error)
        log_unless_silenced(
            logging.WARNING, "decoded images are not kept in %s (%s): each process decodes them again", folder, reason
        )
        return source, []
    return (source if pixels is None or failures else ArrayImages(pixels, source.labels)), failures


def check_once(source: EncodedImages, folder: Path) -> list[Failure]:
    """Return which images cannot be decoded: all are looked at where no process has done so, and noted in the folder.

    Args:
        source: N ≥ 1 images.
        folder: as of `cached`; where it cannot be written, every process looks at them.
    """
    try:
        return _ImageSet(source, folder).failures(source)
    except OSError:
        return source.check()


def keep_decoded(
    sources: Sequence[EncodedImages], memory: int, folder: Path
) -> list[tuple[ImageSource, list[Failure]]]:
    """Return the same images, looked at once each, and for each source the rows that cannot be decoded, with reasons.

    Args:
        sources: of one data set.
        memory: bytes that all of them may take; where they need more, they are `cached`.
        folder: of the cache, and of the note that they were looked at.
    """
    if sum(source.num_bytes for source in sources) > memory:
        return [cached(source, folder) for source in sources]
    for source in sources:
        source.keep()
    return [(source, check_once(source, folder)) for source in sources]


def cache_folder(experiment: Experiment) -> Path:
    """Return where decoded images are kept: `image-cache`, else FEDNC_CACHE, else a folder below the home folder."""
    return experiment.data.image_cache or default_dir("FEDNC_CACHE", ".cache/fednc/images")


def free_bytes(folder: Path) -> int:
    """Return the bytes free on the disk where a folder is, or will be."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def cache_bytes(folder: Path) -> int:
    """Return the bytes of all decoded images in a folder; 0 where it is not there."""
    return sum(path.stat().st_size for path in folder.glob("*.npy"))


def content_name(images: ImageSource) -> str | None:
    """Return a name that other pixels do not have, found without reading them: of files, or of a set of this cache.

    None for other arrays: only their pixels tell.
    """
    if isinstance(images, EncodedImages):
        return _ImageSet(images, Path()).name
    name = Path(str(getattr(getattr(images, "pixels", None), "filename", None) or "")).name
    return name if re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{32}\.npy", name) else None


class _ImageSet:
    """One set of images in a folder; every method may raise `OSError`.

    Args:
        source: the images.
        folder: of the cache.
    """

    def __init__(self, source: Encoded, folder: Path) -> None:
        self._source, self._folder = source, folder
        self._shape = (source.channels, *source.size)
        self._transform = _digest([_decoder(), source.transform, self._shape])[:16]
        self._index = folder / f"{_digest([self._transform, source.marks()])}.json"

    @property
    def name(self) -> str:
        """A hash of how these files become pixels, and of their paths, sizes and times."""
        return self._index.stem

    def pixels(self, kept: int) -> tuple[Pixels | None, list[Failure]]:
        """Return the memory map of all images that can be decoded, and the others; decode them where need be."""
        found = self._look_up()
        if found is None or found[0] is None:
            private_folder(self._folder)
            with exclusive_lock(self._folder, self._index.stem):
                found = self._look_up()  # of the process that was waited for
                if found is None or found[0] is None:
                    found = self._make()
                    tidy(self._folder, kept)
        return found

    def failures(self, source: EncodedImages) -> list[Failure]:
        """Return which images cannot be decoded, whether or not their pixels are in the folder."""
        if (found := self._look_up()) is not None:
            return found[1]
        private_folder(self._folder)
        with exclusive_lock(self._folder, self._index.stem):
            if (found := self._look_up()) is not None:
                return found[1]
            failures = source.check(f"{len(source):,} images are looked at once, so that all bad ones are named")
            self._note(None, failures)
            return failures

    def _look_up(self) -> tuple[Pixels | None, list[Failure]] | None:
        """Return what the index says: the memory map, if it is there and whole, and the failures; None without one."""
        try:
            noted = json.loads(self._index.read_bytes())
            name, failures = noted["pixels"], [(int(row), str(reason)) for row, reason in noted["failures"]]
            path = None if name is None else self._folder / Path(str(name)).name
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError):
            log_unless_silenced(logging.WARNING, "%s is damaged: the images are decoded again", self._index)
            with suppress(OSError):
                self._index.unlink()
            return None
        with suppress(OSError):
            os.utime(self._index)  # used just now
        return self._map(path, len(self._source) - len(failures)), failures

    def _make(self) -> tuple[Pixels | None, list[Failure]]:
        """Decode what no set of the same transform has, write the set and note it."""
        digests, others = [], list(self._folder.glob(f"{self._transform}-*.sha256"))
        if others:
            digests = self._hash_all()
            same = self._path(digests)
            if b"" not in digests and (pixels := self._map(same, len(digests))) is not None:
                self._note(same.name, [])  # the same files in another place, or touched
                return pixels, []
        known = known_pixels(others, set(digests), self._shape)
        path, failures = self._write(digests, known)
        self._note(path.name if path else None, failures)
        return self._map(path, len(self._source) - len(failures)), failures

    def _map(self, path: Path | None, images: int) -> Pixels | None:
        return None if path is None else map_pixels(path, (images, *self._shape))

    def _hash_all(self) -> list[bytes]:
        """Return the hash of each image's bytes; b'' where they cannot be read."""
        found: list[bytes] = []
        decode_all(len(self._source), self._hash, lambda _, digest: found.append(digest), 1)
        return found

    def _hash(self, row: int) -> bytes:
        try:
            return hashlib.sha256(self._source.content(row)).digest()
        except UserError:
            return b""

    def _write(self, digests: list[bytes], known: dict[bytes, Pixels]) -> tuple[Path | None, list[Failure]]:
        """Write a set so that a crash leaves none or a whole one; return where (None: no image at all) and failures."""
        source, written = self._source, list[bytes]()

        def work(row: int) -> tuple[bytes, Pixels]:
            if digests and (pixels := known.get(digests[row])) is not None:
                return digests[row], pixels
            content = source.content(row)
            return hashlib.sha256(content).digest(), source.decode(row, content)

        def use(_: int, result: tuple[bytes, Pixels]) -> None:
            # One after another: a full disk is then an error, whereas a memory map of it would kill the process.
            file.write(result[1].tobytes())
            written.append(result[0])

        what = self._check_room()
        with temporary_file(self._folder, self._index.stem) as file:
            write_header(file, (len(source), *self._shape))
            failures = decode_all(len(source), work, use, source.num_bytes // len(source), what)
            if not written:
                return None, failures
            file.seek(0)
            write_header(file, (len(written), *self._shape))  # as long as the first, see NumPy's format
            path = self._path(written)
            commit_file(file, path)
        with temporary_file(self._folder, self._index.stem) as file:
            file.write(b"".join(written))
            commit_file(file, path.with_suffix(".sha256"))
        return path, failures

    def _check_room(self) -> str:
        """Return what to announce; raise `OSError` where the disk has no room for the set."""
        size, free = self._source.num_bytes, free_bytes(self._folder)
        what = (
            f"{len(self._source):,} images become {format_bytes(size)} of pixels; {format_bytes(free)} free in "
            f"{self._folder}, which later runs use again"
        )
        if size + _SPARE > free:
            raise OSError(errno.ENOSPC, f"{format_bytes(size)} needed, {format_bytes(free)} free")
        return what

    def _path(self, digests: Sequence[bytes]) -> Path:
        return self._folder / f"{self._transform}-{hashlib.sha256(b''.join(digests)).hexdigest()[:32]}.npy"

    def _note(self, name: str | None, failures: list[Failure]) -> None:
        """Write the index; not where a file could not be read, which may come right without the file changing."""
        if b"" in [self._hash(row) for row, _ in failures]:
            return
        with temporary_file(self._folder, self._index.stem) as file:
            file.write(json.dumps({"pixels": name, "failures": failures}).encode())
            commit_file(file, self._index)


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def _decoder() -> list[Any]:
    """Return what decodes here: other versions may make other pixels of the same file."""
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        code.update(path.read_bytes())
    return [code.hexdigest(), *map(_version, ("pillow", "pydicom", "python-gdcm")), features.version("jpg")]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
