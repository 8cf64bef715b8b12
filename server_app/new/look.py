"""What a data set looks like before it is loaded: how large its images are, seen on a sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from common.data.archive import Archive
from common.data.decoding import open_image
from common.data.discovery import find_images
from common.data.manifest import find_manifest, read_manifest
from common.data.npz import stored_images
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
    archive = Archive(path)
    shapes = []
    for stored in _sample(stored_images(archive)):
        if stored.content.ndim == 1:
            image = open_image(stored.content.tobytes(), stored.place)
            shapes.append((image.height, image.width))
        else:
            shapes.append((stored.content.shape[0], stored.content.shape[1]))
    return _sizes(shapes)


def _of_files(paths: Sequence[Path], data: Path) -> Sizes:
    shapes, first_error = [], None
    for path in _sample(paths):
        try:
            image = open_image(path.read_bytes(), str(path))
        except (OSError, UserError) as error:
            first_error = first_error or error
        else:
            shapes.append((image.height, image.width))
    if not shapes:
        raise UserError(f"{data}: no image can be read{f'; the first: {first_error}' if first_error else ''}")
    return _sizes(shapes)


def _sample(items: Sequence[T]) -> list[T]:
    """Return at most `_SAMPLE` items, evenly spaced."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(len(items), _SAMPLE)).astype(int))]


def _sizes(shapes: Sequence[tuple[int, int]]) -> Sizes:
    different = set(shapes)
    return Sizes(tuple(sorted(min(shape) for shape in shapes)), shapes[0] if len(different) == 1 else None)
