"""What a data set looks like before it is loaded: how large its images are, seen on a sample."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from common.data.images.decoding import open_image
from common.data.sources.archive import Archive
from common.data.sources.discovery import find_images
from common.data.sources.manifest import find_manifest, read_manifest
from common.data.sources.npz import Stored, stored_images
from common.errors import UserError

T = TypeVar("T")

_SAMPLE = 200  # images that are opened


@dataclass(frozen=True)
class Sizes:
    """Widths and heights of a sample of images.

    Attributes:
        short_sides: pixels, sorted; never empty.
        uniform: (H, W) where all are of one size, else None.
    """

    short_sides: tuple[int, ...]
    uniform: tuple[int, int] | None

    @property
    def median(self) -> int:
        """The middle short side, in pixels."""
        return self.short_sides[len(self.short_sides) // 2]


def look_at_sizes(keys: dict[str, Any]) -> Sizes | None:
    """Return the sizes of a sample of the images, None for published data sets, whose photographs differ.

    Args:
        keys: of `recognise`.

    Raises:
        UserError: no image can be read at all; single unreadable ones are found when all are loaded.
    """
    data = Path(keys["data-dir"])
    if keys["dataset"] == "npz":
        return _of_archive(data)
    if keys["dataset"] == "image-folder":
        return _of_files(find_images(data).images, data)
    if keys["dataset"] == "manifest":
        table, _, _ = read_manifest(find_manifest(data))
        return _of_files([row.path for row in table.rows], data)
    return None


def _of_archive(path: Path) -> Sizes:
    def shape(stored: Stored) -> tuple[int, int]:
        if stored.content.ndim == 1:
            return _shape(stored.content.tobytes(), stored.place)
        height, width, *_ = stored.content.shape
        return height, width

    return _of_sample(stored_images(Archive(path)), shape, path)


def _of_files(paths: Sequence[Path], data: Path) -> Sizes:
    return _of_sample(paths, lambda path: _shape(path.read_bytes(), str(path)), data)


def _shape(content: bytes, what: str) -> tuple[int, int]:
    image = open_image(content, what)
    return image.height, image.width


def _of_sample(items: Sequence[T], shape: Callable[[T], tuple[int, int]], data: Path) -> Sizes:
    """Return the sizes of those of a sample that can be read: all others are named when everything is loaded."""
    shapes, first_error = [], None
    for item in _sample(items):
        try:
            shapes.append(shape(item))
        except (OSError, UserError) as error:
            first_error = first_error or error
    if not shapes:
        raise UserError(f"{data}: no image can be read{f'; the first: {first_error}' if first_error else ''}")
    return _sizes(shapes)


def _sample(items: Sequence[T]) -> list[T]:
    """Return at most `_SAMPLE` items, evenly spaced."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(len(items), _SAMPLE)).astype(int))]


def _sizes(shapes: Sequence[tuple[int, int]]) -> Sizes:
    different = set(shapes)
    return Sizes(tuple(sorted(min(shape) for shape in shapes)), shapes[0] if len(different) == 1 else None)
