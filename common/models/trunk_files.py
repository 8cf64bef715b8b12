"""The files of a trunk's cache: one value an image, memory-mapped, and which images have theirs.

    <name>/about.json   name and layout; the folder has this name when it is whole
    <name>/outputs      float32, float16 or bfloat16 [n, ...], with holes where nothing was computed yet
    <name>/checksums    uint32 [n], of each value's bytes, 0 where there is none; written after it is on the disk

Any process may read, and fill in what it needs: two that compute the same write the same.
"""

import errno
import json
import logging
import os
import shutil
import tempfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.data.images.decode_all import format_bytes, log_unless_silenced
from common.data.images.pixel_cache import free_bytes
from common.data.images.pixel_files import STALE, remove_oldest, remove_stale
from common.data.images.source import Rows
from common.files import private_file, private_folder

KEPT = 8  # caches in a folder; the one used longest ago goes first

_SPARE = 1 << 26  # bytes of a disk that are left free
_TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_NUMPY = {"fp32": np.float32, "fp16": np.float16, "bf16": np.int16}  # bfloat16's bits, which NumPy has no type for

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Layout:
    """How values lie: `shape` is [n, ...], `precision` fp32, fp16 or bf16."""

    shape: tuple[int, ...]
    precision: str

    @property
    def row_bytes(self) -> int:
        """Bytes of one image's value."""
        return prod(self.shape[1:]) * np.dtype(_NUMPY[self.precision]).itemsize

    @property
    def num_bytes(self) -> int:
        """Bytes of all values."""
        return self.shape[0] * self.row_bytes

    def cast(self, values: Tensor) -> Tensor:
        """Return values in this precision."""
        return values.to(_TORCH[self.precision])

    def array(self, values: Tensor) -> npt.NDArray[Any]:
        """Return values of this precision, on the CPU, as NumPy has them."""
        values = values.contiguous()
        return (values.view(torch.int16) if self.precision == "bf16" else values).numpy()

    def tensor(self, array: npt.NDArray[Any]) -> Tensor:
        """Return NumPy's values as a tensor of this precision."""
        values = torch.from_numpy(array)
        return values.view(torch.bfloat16) if self.precision == "bf16" else values


class Store(Protocol):
    """Values of images, some of which are there; `filled` [n] says which."""

    layout: Layout

    @property
    def filled(self) -> Flags: ...  # noqa: D102
    def lacking(self, rows: Rows) -> Rows: ...  # noqa: D102
    def check_room(self, rows: int) -> None: ...  # noqa: D102
    def write(self, rows: Rows, values: Tensor) -> None: ...  # noqa: D102
    def commit(self, rows: Rows) -> None: ...  # noqa: D102
    def read(self, rows: Rows) -> Tensor: ...  # noqa: D102


class MemoryStore:
    """Values in the memory of this process; pages that nothing was written to take none."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.filled: Flags = np.zeros(layout.shape[0], np.bool_)
        self._values = np.empty(layout.shape, _NUMPY[layout.precision])

    def lacking(self, rows: Rows) -> Rows:
        """Return which of the rows have no value, each once."""
        return np.unique(rows[~self.filled[rows]])

    def check_room(self, rows: int) -> None:
        """Do nothing: whoever made this store asked for its room."""

    def write(self, rows: Rows, values: Tensor) -> None:
        """Keep values [b, ...] of rows [b]."""
        self._values[rows] = self.layout.array(values)

    def commit(self, rows: Rows) -> None:
        """Note that rows have their values."""
        self.filled[rows] = True

    def read(self, rows: Rows) -> Tensor:
        """Return the values [b, ...] of rows [b] that are there."""
        return self.layout.tensor(self._values[rows])


class TrunkFiles:
    """Values in files of a folder of their own.

    Args:
        parent: of all such folders.
        name: of this one; its content depends on nothing else.
        layout: of the values, n ≥ 1.
        announces: whether the log says how large new files get.

    Raises:
        OSError: on construction and in `write`: the files cannot be made, read or written.
    """

    def __init__(self, parent: Path, name: str, layout: Layout, announces: bool = False) -> None:
        self.layout, self._folder = layout, parent / name
        if not self._whole():
            if announces:
                self._announce()
            self._make()
            remove_oldest(
                (path for path in parent.iterdir() if path.is_dir() and path.suffix != ".part"), KEPT, "trunks' caches"
            )
            remove_stale(parent, {".part": STALE})
        os.utime(self._folder)  # used just now
        # left open: another process may remove the folder, which takes nothing from this one
        self._files = [(self._folder / name).open("r+b", buffering=0) for name in ("outputs", "checksums")]
        self._outputs = np.memmap(self._files[0], _NUMPY[layout.precision], "r", shape=layout.shape)
        self._sums = np.memmap(self._files[1], np.uint32, "r", shape=layout.shape[:1])
        self._checked = np.zeros(layout.shape[0], np.bool_)

    @property
    def filled(self) -> Flags:
        """Which images have their value, [n], as far as any process has noted it."""
        return np.asarray(self._sums) > 0

    def lacking(self, rows: Rows) -> Rows:
        """Return which of the rows have no value, each once, or one that was damaged since, which the log names."""
        with suppress(OSError):
            os.utime(self._folder)  # used just now; gone, where another process has tidied up
        rows = np.unique(rows)
        there = self.filled[rows]
        unsure = rows[there & ~self._checked[rows]]
        sound = np.array([_checksum(self._outputs[row].tobytes()) for row in unsure], np.uint32) == self._sums[unsure]
        self._checked[unsure[sound]] = True
        if damaged := int((~sound).sum()):
            log_unless_silenced(
                logging.WARNING, "%s: the values of %d images are damaged, and computed again", self._folder, damaged
            )
        return np.union1d(rows[~there], unsure[~sound])

    def check_room(self, rows: int) -> None:
        """Raise `OSError` where the disk has no room for the values of so many rows."""
        needed, free = rows * self.layout.row_bytes, free_bytes(self._folder)
        if needed + _SPARE > free:
            raise OSError(errno.ENOSPC, f"{format_bytes(needed + _SPARE)} needed, {format_bytes(free)} free")

    def write(self, rows: Rows, values: Tensor) -> None:
        """Keep values [b, ...] of rows [b]. Not through the map: a full disk is then an error, and kills nothing."""
        for row, value in zip(rows.tolist(), self.layout.array(values), strict=True):
            _write_at(self._files[0], row * self.layout.row_bytes, value.tobytes())

    def commit(self, rows: Rows) -> None:
        """Make what was written safe, then note that these rows have it."""
        os.fsync(self._files[0].fileno())
        size = self.layout.row_bytes
        for row in rows.tolist():
            checksum = _checksum(os.pread(self._files[0].fileno(), size, row * size))
            _write_at(self._files[1], 4 * row, np.uint32(checksum).tobytes())
        self._checked[rows] = True

    def read(self, rows: Rows) -> Tensor:
        """Return the values [b, ...] of rows [b] that are there."""
        return self.layout.tensor(np.asarray(self._outputs[rows]))

    def _about(self) -> dict[str, Any]:
        return {"name": self._folder.name, "shape": list(self.layout.shape), "precision": self.layout.precision}

    def _whole(self) -> bool:
        """Return whether the folder is there and as it should be; remove it where it is damaged."""
        if not os.path.lexists(self._folder):
            return False
        try:
            about = json.loads((self._folder / "about.json").read_bytes())
            sizes = [(self._folder / name).stat().st_size for name in ("outputs", "checksums")]
            if about == self._about() and sizes == [self.layout.num_bytes, 4 * self.layout.shape[0]]:
                return True
        except (ValueError, OSError):
            pass
        log_unless_silenced(
            logging.WARNING, "%s is damaged, or another trunk's: it is removed, and computed again", self._folder
        )
        if self._folder.is_dir() and not self._folder.is_symlink():
            shutil.rmtree(self._folder)
        else:
            self._folder.unlink()
        return False

    def _announce(self) -> None:
        folder = self._folder.parent
        log_unless_silenced(
            logging.INFO,
            "what the backbone's frozen part makes of %s images is computed once: up to %s in %s, of %s free",
            f"{self.layout.shape[0]:,}", format_bytes(self.layout.num_bytes), folder, format_bytes(free_bytes(folder)),
        )  # fmt: skip

    def _make(self) -> None:
        parent = private_folder(self._folder.parent)
        part = Path(tempfile.mkdtemp(prefix=f"{self._folder.name}.", suffix=".part", dir=parent))
        try:
            with private_file(part / "outputs", "wb") as file:
                file.truncate(self.layout.num_bytes)
            with private_file(part / "checksums", "wb") as file:
                file.write(bytes(4 * self.layout.shape[0]))  # no hole: to read one may take room that is not there
            with private_file(part / "about.json") as file:
                json.dump(self._about(), file)
            with suppress(OSError):  # another process was faster
                part.rename(self._folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _checksum(content: bytes) -> int:
    return zlib.crc32(content) or 1  # 0: there is no value


def _write_at(file: IO[bytes], place: int, content: bytes) -> None:
    """Write at a place of a file, whatever other threads do."""
    while content:
        written = os.pwrite(file.fileno(), content, place)
        content, place = content[written:], place + written
