"""The names of series beside their marks, above a chart."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from server_app.report.charts.canvas import Canvas
from server_app.report.charts.places import text_width
from server_app.report.charts.series import Series, shorten
from server_app.report.charts.theme import BACKGROUND, colour, marker

if TYPE_CHECKING:
    from matplotlib.artist import Artist

ROW = 18.0  # points
_LONGEST = 60  # characters
_MARK = 38.0  # points


def legend(canvas: Canvas, handles: Sequence["Artist"], names: Sequence[str]) -> None:
    """Write names beside samples of their marks, in as many columns as there is room for."""
    if names:
        canvas.figure.legend(
            handles, [shorten(name, _LONGEST) for name in names], loc="outside upper left", ncols=_columns(names),
            handletextpad=0.2, columnspacing=1.5, borderaxespad=0.0, borderpad=0.1,
        )  # fmt: skip


def legend_height(names: Sequence[str]) -> float:
    """Return how many points the legend of so many names takes."""
    return ROW * -(-len(names) // _columns(names)) if names else 0.0


def open_marks(series: Sequence[Series]) -> list["Artist"]:
    """Return a sample of each series' open mark."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], linestyle="", marker=marker(s.style), markersize=7, markeredgewidth=1.6,
               markerfacecolor=BACKGROUND, markeredgecolor=colour(s.style))
        for s in series
    ]  # fmt: skip


def _columns(names: Sequence[str]) -> int:
    longest = max(text_width(shorten(name, _LONGEST)) for name in names)
    return max(1, int((Canvas.width - 20) // (longest + _MARK)))
