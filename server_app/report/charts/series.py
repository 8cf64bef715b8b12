"""Curves and clouds as data, and words for their values."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.markup import plain_line


@dataclass(frozen=True)
class Series:
    """One curve or cloud.

    Attributes:
        name: as the chart writes it.
        points: (x, y); y may be unknown.
        style: of its colour, marker and dash, see `theme`.
        final: whether the last point is marked.
        band: (low, high) around each point, or None; empty for no band.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    style: int
    final: bool = False
    band: Sequence[tuple[float, float] | None] = ()

    @property
    def known(self) -> list[tuple[float, float]]:
        """The points whose y is known."""
        return [(x, y) for x, y in self.points if y is not None]


@dataclass(frozen=True)
class Key:
    """What a chart's names are where a narrow window shows only a part of it: words beside a mark.

    Attributes:
        words: the name and its value.
        colour: of the mark, one of `theme`.
        marker: its shape.
    """

    words: str
    colour: str
    marker: str


@dataclass(frozen=True)
class Level:
    """A value to measure by, such as what guessing gets: a thin line across the chart."""

    name: str
    value: float


def shorten(name: str, length: int) -> str:
    """Return the name as one line, cut to at most `length` characters."""
    name = plain_line(name)
    return name if len(name) <= length else name[: length - 1] + "…"


def value_text(value: float, percent: bool) -> str:
    """Return a value as the charts write it."""
    return f"{value * 100:.1f} %" if percent else f"{value:.3g}"


def spread_labels(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return the ascending positions moved apart to at least `gap`, as little as it takes, within [low, high]."""
    groups: list[tuple[float, int]] = []  # neighbours that touch: mean position of the first, and how many
    for i, y in enumerate(wanted):
        groups.append((y - i * gap, 1))
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (a, n), (b, m) = groups[-2:]
            groups[-2:] = [((a * n + b * m) / (n + m), n + m)]
    firsts = [first for first, count in groups for _ in range(count)]
    top = high - (len(firsts) - 1) * gap
    return [min(max(first, low), top) + i * gap for i, first in enumerate(firsts)]
