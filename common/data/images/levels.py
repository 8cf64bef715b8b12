"""Grey values of any range as 0 (black) to 1 (white), and how large an image may be."""

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.errors import UserError

Depth = Literal["percentile", "stored"]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32] | npt.NDArray[np.int64]

_TAIL = 0.001  # of the pixels, at either end, may be beyond black and white
# A mammogram has up to 30 million pixels, a scanned section some hundred; whole slides have billions.
MOST_PIXELS = 1 << 28
_MANY_PIXELS = 1 << 25
_DENSEST = 1 << 12  # pixels a byte; an empty PNG of 8 bits has a thousand


def check_pixels(width: int, height: int, size: int, what: str) -> None:
    """Refuse an image that would not fit in memory, before it is decoded.

    Args:
        width: in pixels.
        height: in pixels.
        size: of the file, in bytes.
        what: names it in errors.

    Raises:
        UserError: too many pixels, or very many in a small file.
    """
    pixels = width * height
    if pixels > MOST_PIXELS:
        raise UserError(f"{what}: has {pixels} pixels, more than {MOST_PIXELS}; save it smaller, or cut it into tiles")
    if pixels > _MANY_PIXELS and size * _DENSEST < pixels:
        raise UserError(
            f"{what}: says that it has {pixels} pixels, in a file of {size} bytes: empty, or a decompression bomb; "
            "replace or remove it"
        )


def grey_levels(pixels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Counts, Places]:
    """Return the values of grey pixels, so that tables and windows are applied to each value once.

    Args:
        pixels: [H, W] integers or floating point.

    Returns:
        values [n], in order; how many pixels have each, [n], possibly 0; the place of each pixel's value, [H, W].
    """
    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= 2:
        low = int(pixels.min())
        above = np.asarray(pixels.astype(np.int32) - low, np.int32)
        counts = np.bincount(above.ravel())
        return np.arange(low, low + len(counts)), counts, above
    values, places, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    return values, counts, places.reshape(pixels.shape)


def spread(values: Floats, counts: Counts, depth: Depth, low: float, high: float) -> Floats:
    """Map grey values to 0 … 1, possibly beyond.

    Args:
        values: [n].
        counts: [n], pixels with each value that decide what is black and white.
        depth: `percentile`: the pixels' 0.1 and 99.9 % percentiles become 0 and 1; `stored`: `low` and `high` do.
        low: the smallest value that could be stored.
        high: the largest one.

    Returns:
        [n]; 0 where all pixels are equal.
    """
    if depth == "percentile":
        order = np.argsort(values, kind="stable")
        upto = np.cumsum(counts[order])
        if not upto[-1]:
            return np.zeros(values.shape)
        # ranks that are there, so that in a small image, too, a single pixel is beyond them
        last = int(upto[-1]) - 1
        ranks = [math.ceil(last * _TAIL), math.floor(last * (1 - _TAIL))]
        if ranks[0] > ranks[1] or len(set(_at(values[order], upto, ranks))) == 1:
            ranks = [0, last]  # but for a few pixels all are equal
        low, high = _at(values[order], upto, ranks)
    return (values - low) / ((high - low) or 1)


def _at(values: Floats, upto: Counts, ranks: list[int]) -> list[float]:
    """Return the values of ranks among all pixels, from 0; `upto`: pixels up to each value."""
    return [float(values[place]) for place in np.searchsorted(upto, ranks, side="right")]


def to_bytes(shown: Floats) -> npt.NDArray[np.uint8]:
    """Round 0 … 1 to 0 … 255, cut at both ends."""
    return np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
