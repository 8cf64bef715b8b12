"""Encoded image files, decoded by several threads when a batch needs them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from common.data.images.bad_images import BadImagesError, Failure
from common.data.images.decode_all import decode_all, format_bytes
from common.data.images.decoding import is_grey, open_image
from common.data.images.levels import Depth
from common.data.images.source import (
    ArrayImages,
    Interpolation,
    Labels,
    Pixels,
    Rows,
    fit_name,
    read_bytes,
    to_pixels,
)
from common.errors import UserError

_TRIED = 100  # files of which one must be an image


class EncodedImages:
    """N images of which each is a file's bytes, decoded when a batch asks for it; the base of what has such files.

    Args:
        labels: [N] or [N, C].
        image_size: fitted to this many pixels a side; None: every image must have the first one's size.
        channels: 1 or 3: every image is made grey, or RGB; None: the first one that can be read decides, and a colour
            image after a grey one is an error.
        depth: how more than 8 bits become 8, see `open_image`.
        interpolation: by which they are fitted, see `fit`.

    Attributes:
        transform: all that decides which pixels an image's bytes become; other text, other pixels.

    Raises:
        UserError: on construction or in `batch`, naming what cannot be read or does not fit.
    """

    def __init__(
        self,
        labels: Labels,
        image_size: int | None,
        channels: int | None,
        depth: Depth,
        interpolation: Interpolation,
    ) -> None:
        self.labels, self._interpolation = labels, interpolation
        self._depth, self._image_size, self._convert = depth, image_size, channels is not None
        if channels and image_size:
            self.channels, self.size = channels, (image_size, image_size)
        else:
            first = self._first()
            self.channels = channels or (1 if is_grey(first) else 3)
            self.size = (image_size, image_size) if image_size else (first.height, first.width)
        fitted = fit_name(image_size, interpolation)
        self.transform = f"{self.channels}×{self.size} fit={fitted} convert={self._convert} depth={depth}"
        self._kept: Pixels | None = None
        self._is_kept = np.zeros(len(labels), np.bool_)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_bytes(self) -> int:
        """Bytes of all pixels."""
        return len(self) * self.channels * self.size[0] * self.size[1]

    def content(self, row: int) -> bytes:
        """Return an image's bytes; raise `UserError` where they cannot be read."""
        raise NotImplementedError

    def name(self, row: int) -> str:
        """Return what an image is called in errors."""
        raise NotImplementedError

    def marks(self) -> list[Any]:
        """Return JSON values that are quickly found, and change when an image does: paths, sizes, times."""
        raise NotImplementedError

    def decode(self, row: int, content: bytes) -> Pixels:
        """Return uint8 [channels, H, W]; raise `UserError` where the bytes are no such image."""
        image, what = self._open(row, content), self.name(row)
        size = self._image_size
        return to_pixels(image, what, self.channels, size, self.size, self._convert, self._interpolation)

    def keep(self) -> None:
        """Keep in memory what is decoded from now on."""
        # Pages of an empty array take no memory until a row is written.
        self._kept = np.empty((len(self), self.channels, *self.size), np.uint8)

    def in_memory(self) -> tuple[ArrayImages, list[Failure]]:
        """Return the same images, all decoded now, and which of them cannot be."""
        self.keep()
        failures = self.check(f"{len(self):,} images become {format_bytes(self.num_bytes)} of pixels in memory")
        assert self._kept is not None
        return ArrayImages(self._kept, self.labels), failures

    def check(self, what: str = "") -> list[Failure]:
        """Decode all images by several threads; return those that cannot be. `what`: see `decode_all`."""
        return self._decode_all(np.arange(len(self)), self._store, what)

    def batch(self, rows: Rows) -> torch.Tensor:
        """Return the images of these rows as uint8 [B, C, H, W]."""
        if self._kept is None:
            out = np.empty((len(rows), self.channels, *self.size), np.uint8)
            failures = self._decode_all(rows, out.__setitem__)
        else:
            missing = np.unique(rows[~self._is_kept[rows]])
            failures = self._decode_all(missing, lambda i, pixels: self._store(missing[i], pixels))
            out = self._kept[rows]
        if failures:
            raise BadImagesError(failures, len(rows))
        return torch.from_numpy(out)

    def _decode_all(self, rows: Rows, use: Callable[[int, Pixels], object], what: str = "") -> list[Failure]:
        def work(i: int) -> Pixels:
            row = int(rows[i])
            return self.decode(row, self.content(row))

        return decode_all(len(rows), work, use, self.num_bytes // len(self), what)

    def _store(self, row: int, pixels: Pixels) -> None:
        if self._kept is not None:
            self._kept[row] = pixels
            self._is_kept[row] = True

    def _first(self) -> Image.Image:
        """Return the first image that can be read; the others are named together with all that cannot."""
        failures: list[Failure] = []
        for row in range(min(len(self), _TRIED)):
            try:
                return self._open(row, self.content(row))
            except UserError as error:
                failures.append((row, str(error)))
        raise BadImagesError(failures, len(self))

    def _open(self, row: int, content: bytes) -> Image.Image:
        return open_image(content, self.name(row), self._depth, self._image_size)


class FileImages(EncodedImages):
    """Image files.

    Args:
        paths: N files.
        labels: see `EncodedImages`.
        image_size: likewise.
        channels: likewise.
        places: where each file was listed, for errors; None: the file itself is named.
        depth: see `EncodedImages`.
        interpolation: likewise.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Labels,
        image_size: int | None = None,
        channels: int | None = None,
        places: Sequence[str] | None = None,
        depth: Depth = "percentile",
        interpolation: Interpolation = "bicubic",
    ) -> None:
        self._paths, self._places = list(paths), places
        super().__init__(labels, image_size, channels, depth, interpolation)

    def content(self, row: int) -> bytes:
        """Return a file's bytes."""
        return read_bytes(self._paths[row], self.name(row))

    def name(self, row: int) -> str:
        """Return where a file was listed, and the file."""
        return f"{self._places[row]}: {self._paths[row]}" if self._places else str(self._paths[row])

    def marks(self) -> list[Any]:
        """Return path, size and times of each file; the time of its inode cannot be set back."""
        return [file_stamp(path) for path in self._paths]


class ByteImages(EncodedImages):
    """Image files that lie end to end in one array.

    Args:
        data: [bytes] uint8.
        offsets: [n + 1] starts; file i is data[offsets[i] : offsets[i + 1]].
        rows: which of the n files, in this order.
        labels: [len(rows)] or [len(rows), C], theirs.
        image_size: see `EncodedImages`.
        what: names the array in errors.
        origin: the file that holds it.
        depth: see `EncodedImages`.
        interpolation: likewise.
    """

    def __init__(
        self,
        data: Pixels,
        offsets: npt.NDArray[np.int64],
        rows: Rows,
        labels: Labels,
        image_size: int | None,
        what: str,
        origin: Path,
        depth: Depth = "percentile",
        interpolation: Interpolation = "bicubic",
    ) -> None:
        self._data, self._offsets, self._rows, self._what, self._origin = data, offsets, rows, what, origin
        super().__init__(labels, image_size, None, depth, interpolation)

    def content(self, row: int) -> bytes:
        """Return a file's bytes."""
        start, end = self._offsets[self._rows[row] :][:2]
        return self._data[start:end].tobytes()

    def name(self, row: int) -> str:
        """Return array and row."""
        return f"{self._what}[{self._rows[row]}]"

    def marks(self) -> list[Any]:
        """Return what is known of the file that holds the array, and which of its rows these are."""
        return [file_stamp(self._origin), self._what, self._rows.tolist()]


def file_stamp(path: Path) -> list[Any]:
    """Return a file's path, size and times, the last of which no program can set; the path alone if it is not there."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return [str(path)]
    return [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
