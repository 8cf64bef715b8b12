"""Axes: shares in per cent, image counts on a logarithmic scale, whole rounds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis


def hold_values(axes: "Axes", values: Sequence[float], *, percent: bool = False, from_zero: bool = True) -> None:
    """Set the y axis so that it holds the values; logarithmic if they span more than a factor of a hundred.

    Args:
        axes: where they are drawn.
        values: at least one.
        percent: whether they are shares, written in per cent.
        from_zero: whether the axis begins at zero; else below the least value.
    """
    low, high = min(values), max(values)
    if not percent and from_zero and low > 0 and high / low > 100:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, high * 1.2)
        return
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = 0.05 * (high - low) or 0.05
    bottom = low if from_zero and low == 0 else low - room
    top = min(high + room, max(1.0, high)) if percent else high + room
    axes.set_ylim(bottom, top)
    if percent:
        in_percent(axes.yaxis)


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
