"""Named things compared: a row of marks each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from server_app.report.charts.canvas import Canvas, Chart
from server_app.report.charts.scales import in_percent
from server_app.report.charts.series import Series, shorten, value_text
from server_app.report.charts.theme import BACKGROUND, RULE, colour, marker

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_ROW = 30.0  # points, of which the marks of a row share two thirds


def dot_chart(name: str, names: Sequence[str], series: Sequence[Series], label: str) -> Chart | None:
    """Return a row of marks for each name, one a series, over shares from zero; a series' band are its whiskers.

    Args:
        name: of the chart's files.
        names: the rows, from the top.
        series: the marks; their points are (row index, share or None). None is returned where none has a share.
        label: what the chart shows, in words.
    """
    known = [share for one in series for _, share in one.known]
    if not known:
        return None

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes()
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), [shorten(row, 30) for row in names])
        axes.set_yticks([i + 0.5 for i in range(len(names) - 1)], minor=True)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="y", which="minor", color=RULE, linewidth=0.5)
        axes.tick_params(axis="y", which="minor", length=0)
        edges = [edge for one in series for pair in one.band if pair for edge in pair]
        axes.set_xlim(min(0.0, *known, *edges), 1.02 * max(*known, *edges) or 1.0)
        in_percent(axes.xaxis)
        marks = [
            _marks(canvas, axes, one, names, 0.66 * ((i + 0.5) / len(series) - 0.5)) for i, one in enumerate(series)
        ]
        words = [shorten(one.name, 60) for one in series]  # by themselves, names that begin with _ would be left out
        axes.legend(marks, words, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=len(series))

    rows = [
        [names[int(x)], one.name, share, *((one.band[i] if one.band else None) or (None, None))]
        for one in series
        for i, (x, share) in enumerate(one.points)
    ]
    height = 76 + _ROW * len(names)
    return Chart(name, label, ["name", "series", "share", "low", "high"], rows, height, draw)


def _marks(canvas: Canvas, axes: "Axes", series: Series, names: Sequence[str], offset: float) -> "Artist":
    """Draw and return a series' marks, with whiskers, `offset` rows below the middle of each row."""
    tint = colour(series.style)
    whiskers = [(x + offset, *pair) for (x, _), pair in zip(series.points, series.band, strict=False) if pair]
    if whiskers:
        rows, low, high = zip(*whiskers, strict=True)
        axes.hlines(rows, low, high, colors=tint, linewidths=1.2, alpha=0.7, zorder=2)
    spots = axes.scatter(
        [share for _, share in series.known], [x + offset for x, _ in series.known], s=42, marker=marker(series.style),
        color=tint, edgecolors=BACKGROUND, linewidths=0.7, zorder=3, clip_on=False,
    )  # fmt: skip
    canvas.tell(spots, [f"{names[int(x)]}, {series.name}: {value_text(share, True)}" for x, share in series.known])
    return spots
