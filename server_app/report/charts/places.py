"""Where names go in a chart: near what they name, and upon nothing else."""

from collections.abc import Sequence
from itertools import product
from math import hypot
from typing import TypeAlias
from unicodedata import east_asian_width

Frame: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom in points; y grows downwards
_LINE = 13.0  # height of a name
_LETTER, _WIDE_LETTER = 7.2, 12.0  # of the charts' font, on average; of Chinese and the like


def text_width(words: str) -> float:
    """Return about how many points the words take in the charts."""
    wide = sum(east_asian_width(letter) in "WF" for letter in words)
    return _LETTER * (len(words) - wide) + _WIDE_LETTER * wide


def name_frame(place: tuple[float, float], width: float) -> Frame:
    """Return what a name covers that begins at a place, (left end, base line)."""
    left, base = place
    return left, base - _LINE + 3, left + width, base + 3


def place_names(
    spots: Sequence[tuple[float, float]], widths: Sequence[float], box: Frame, lines: Sequence[Frame] = ()
) -> list[tuple[float, float]]:
    """Return the left end and base line of each name, in points: as near to its spot as it is free.

    Args:
        spots: where the marks are.
        widths: of the names.
        box: what the names keep within.
        lines: what they keep clear of beside the marks and each other.
    """
    taken = [(left, top - 3, right, bottom + 3) for left, top, right, bottom in lines]
    taken += [(x - 7, y - 7, x + 7, y + 7) for x, y in spots]
    places = []
    for (x, y), width in zip(spots, widths, strict=True):
        across = (11.0, -11 - width, 24.0, -24 - width, -width / 2)
        ways = [(x + dx, y + 4 + 6 * dy) for dx, dy in product(across, range(-20, 21))]
        ways.sort(key=lambda way: _distance((x, y), name_frame(way, width)))
        free = (way for way in ways if _free(name_frame(way, width), box, taken))
        inside = (way for way in ways if _free(name_frame(way, width), box, ()))
        place = next(free, None) or next(inside, ways[0])
        taken.append(name_frame(place, width))
        places.append(place)
    return places


def _distance(spot: tuple[float, float], frame: Frame) -> float:
    """Return how far a name is from its mark; on its line counts as nearer."""
    x, y = spot
    aside = max(frame[0] - x, x - frame[2], 0.0)
    below = max(frame[1] - y, y - frame[3], 0.0)
    return hypot(aside, below) + 0.3 * abs((frame[1] + frame[3]) / 2 - y)


def _free(frame: Frame, box: Frame, taken: Sequence[Frame]) -> bool:
    """Whether a frame lies within the box and upon nothing that is taken."""
    left, top, right, bottom = frame
    inside = box[0] <= left and box[1] <= top and right <= box[2] and bottom <= box[3]
    return inside and not any(left < t[2] and t[0] < right and top < t[3] and t[1] < bottom for t in taken)
