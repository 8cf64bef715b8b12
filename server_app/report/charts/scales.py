"""Axes: shares in per cent, image counts on a logarithmic scale, whole rounds."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from server_app.report.charts.theme import SOFT

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

ZERO = 0.5  # where a logarithmic axis of counts has its 0


def hold_values(
    axes: "Axes",
    values: Sequence[float],
    *,
    percent: bool = False,
    from_zero: bool = True,
    guess: float | None = None,
) -> None:
    """Set the y axis so that it holds the values; logarithmic if they span more than a factor of a hundred.

    Args:
        axes: where they are drawn.
        values: at least one.
        percent: whether they are shares, written in per cent.
        from_zero: whether the axis begins at zero; else below the least value.
        guess: the share that guessing gets: the axis begins there, or has a line there if a value is below it.
    """
    low, high = min(values), max(values)
    if not percent and from_zero and low > 0 and high / low > 100:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, high * 1.2)
        return
    start = guess if guess is not None and low >= guess else 0.0 if from_zero and guess is None else None
    if start is not None:
        low, high = min(low, start), max(high, start)
    room = 0.05 * (high - low) or 0.05
    bottom = low if low == start else low - room
    top = min(high + room, max(1.0, high)) if percent else high + room
    axes.set_ylim(bottom, top)
    if guess is not None and bottom < guess:
        draw_level(axes, guess)
    if percent:
        in_percent(axes.yaxis)


def draw_level(axes: "Axes", value: float, *, upright: bool = False) -> "Artist":
    """Draw a thin line across the chart, which values are measured by."""
    draw = axes.axvline if upright else axes.axhline
    line: Artist = draw(value, color=SOFT, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1.5)
    return line


def in_percent(axis: "Axis") -> None:
    """Write an axis's ticks, which are shares, in per cent."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.6g} %".replace("-", "−")))


def whole_ticks(axis: "Axis") -> None:
    """Set an axis's ticks at whole numbers, such as rounds."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(8, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def count_limits(counts: Sequence[float], span: float = 10.0) -> tuple[float, float]:
    """Return the ends of a logarithmic axis of image counts; the last is at least `span` times the first."""
    low = ZERO if min(counts, default=0) < 1 else max(1.0, min(counts) / 1.3)
    return low, max(max(counts, default=1) * 1.3, low * span)


def count_ticks(low: float, high: float, *, sparse: bool = False) -> list[tuple[float, str]]:
    """Return a count axis's ticks with their labels: whole numbers, and 0 where the axis reaches it.

    Args:
        low, high: ends of the axis.
        sparse: powers of ten alone.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator

    if high / low > 9:
        factors = (1.0,) if sparse or high / low >= 1000 else (1.0, 2.0, 5.0)
        ticks = LogLocator(10, subs=factors, numticks=50).tick_values(low, high)
    else:
        ticks = MaxNLocator(5, integer=True).tick_values(low, high)
    whole = [float(t) for t in ticks if max(low, 1) <= t <= high and math.isclose(t, round(t))]
    return ([(ZERO, "0")] if low == ZERO else []) + [(t, f"{t:,.0f}") for t in whole]


def count_scale(axis: "Axis", low: float, high: float, *, sparse: bool = False) -> None:
    """Make an axis one of image counts; see `count_ticks`."""
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    getattr(axis.axes, f"set_{axis.axis_name}lim")(low, high)
    ticks = count_ticks(low, high, sparse=sparse)
    axis.set_ticks([value for value, _ in ticks], [words for _, words in ticks])
    axis.set_ticks([], minor=True)


def rank_ticks(count: int) -> list[int]:
    """Return 1 and about ten round ranks up to `count`."""
    from matplotlib.ticker import MaxNLocator

    ticks = [int(t) for t in MaxNLocator(10, steps=[1, 2, 5, 10], integer=True).tick_values(0, count)]
    gap = ticks[1] - ticks[0]
    return [1] + [t for t in ticks if 1 + gap / 2 < t <= count]
