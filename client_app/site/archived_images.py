"""The images of a site's archive with the experiment's channels, for the cache: read only where it has none of them."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common.data.images.encoded import file_stamp
from common.data.images.levels import Depth
from common.data.images.source import ArrayImages, Interpolation, Labels, Pixels, Rows, fit_name
from common.data.sources import npz


class ArchivedImages:
    """One side of an archive.

    Args:
        archive: the file.
        side: train or test.
        labels: [N] or [N, C].
        channels: 1 or 3, of the experiment: grey becomes three equal channels, colour its luminance.
        image_size: pixels a side.
        opened: reads the side's images from the archive, at this size.
        depth: how more than 8 bits become 8 there.
        interpolation: by which they were made of this size.
    """

    def __init__(
        self,
        archive: Path,
        side: str,
        labels: Labels,
        channels: int,
        image_size: int,
        opened: Callable[[], npz.Opened],
        depth: Depth = "percentile",
        interpolation: Interpolation = "bicubic",
    ) -> None:
        self.labels, self.channels, self.size = labels, channels, (image_size, image_size)
        fitted = "" if interpolation == "bicubic" else f" fit={fit_name(image_size, interpolation)}"
        self.transform = f"archive: {channels}×{self.size} depth={depth}{fitted}"
        self._archive, self._side, self._opened, self._lock = archive, side, opened, Lock()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_bytes(self) -> int:
        """Bytes of all pixels."""
        return len(self) * self.channels * self.size[0] * self.size[1]

    def marks(self) -> list[Any]:
        """Return the archive's path, size and times, and which side this is, with or without some left out."""
        return [file_stamp(self._archive), self._side, len(self)]

    def content(self, row: int) -> bytes:
        """Return what the archive stores of an image: a file's bytes, or its pixels at the experiment's size."""
        images = self._images
        return images.pixels[row].tobytes() if isinstance(images, ArrayImages) else images.content(row)

    def decode(self, row: int, content: bytes) -> Pixels:
        """Return uint8 [channels, H, W]; raise `UserError` where the bytes are no image."""
        images = self._images
        pixels = images.pixels[row] if isinstance(images, ArrayImages) else images.decode(row, content)
        return _with_channels(pixels, self.channels)

    def batch(self, rows: Rows) -> torch.Tensor:
        """Return the images of these rows as uint8 [B, C, H, W]."""
        return torch.from_numpy(np.stack([self.decode(row, self.content(row)) for row in rows.tolist()]))

    @property
    def _images(self) -> npz.Opened:
        with self._lock:  # several threads decode
            return self._read

    @cached_property
    def _read(self) -> npz.Opened:
        return self._opened()


def _with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Return an image [1 or 3, H, W] with 1 or 3 channels."""
    if pixels.shape[0] < channels:
        return pixels.repeat(channels, axis=0)
    return _luminance(pixels) if pixels.shape[0] > channels else pixels


def _luminance(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return RGB [3, H, W] as grey [1, H, W] by ITU-R 601, as Pillow converts files."""
    weights = np.array([19595, 38470, 7471], np.uint32)[:, None, None]
    return np.asarray(((pixels * weights).sum(axis=0, keepdims=True) + 0x8000 >> 16), np.uint8)
