"""Horizontal bars of shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.markup import plain_line
from server_app.report.charts.canvas import Canvas, Chart
from server_app.report.charts.legend import legend, legend_height
from server_app.report.charts.scales import draw_level, in_percent
from server_app.report.charts.series import shorten
from server_app.report.charts.theme import BACKGROUND, INK, colour

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        name: left of it.
        value: its length, a share; None if unknown.
        words: right of it.
        notch: a share that a line across the bar marks, such as the same at an earlier stage.
        level: a share to measure by, such as what guessing gets.
    """

    name: str
    value: float | None
    words: str
    notch: float | None = None
    level: float | None = None


def bar_chart(
    name: str,
    bars: Sequence[Bar],
    label: str,
    notch_name: str = "",
    level_name: str = "",
    guess: float | None = None,
) -> Chart | None:
    """Return horizontal bars up to 100 %, one a row, each with its name and words.

    Args:
        name: of the chart's files.
        bars: from the top down; None is returned where there is none.
        label: what the chart shows, in words.
        notch_name, level_name: what notches and levels are.
        guess: the share that guessing gets: where none is below it the axis begins there, else a line is drawn there.
    """
    if not bars:
        return None
    row = 18.0 if len(bars) > 12 else 24.0
    shares = [share for bar in bars for share in (bar.value, bar.notch, bar.level) if share is not None]
    start = guess if guess is not None and min(shares, default=0.0) >= guess else 0.0

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes()
        axes.set_xlim(start, 1.0)
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.xaxis.tick_top()
        in_percent(axes.xaxis)
        axes.grid(visible=False, axis="y")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_yticks(range(len(bars)), [shorten(bar.name, 20) for bar in bars])
        _bars(canvas, axes, bars, start)
        for place, bar in enumerate(bars):
            axes.text(1.015, place, plain_line(bar.words), transform=axes.get_yaxis_transform(), va="center")
        if guess is not None and start < guess:
            draw_level(axes, guess, upright=True)
        marks = [_notches(axes, bars), _levels(canvas, axes, bars, level_name)]
        named = [(mark, words) for mark, words in zip(marks, (notch_name, level_name), strict=True) if mark]
        legend(canvas, [mark for mark, _ in named], [words for _, words in named])

    names = [
        words
        for words, values in (
            (notch_name, [bar.notch for bar in bars]),
            (level_name, [bar.level for bar in bars]),
        )
        if any(value is not None for value in values)
    ]
    columns = ["name", "value", notch_name or "notch", level_name or "level"]
    rows = [[bar.name, bar.value, bar.notch, bar.level] for bar in bars]
    return Chart(name, label, columns, rows, 34 + row * len(bars) + legend_height(names), draw)


def _bars(canvas: Canvas, axes: "Axes", bars: Sequence[Bar], start: float) -> None:
    from matplotlib.collections import PolyCollection

    ends = [max(bar.value or 0.0, start) for bar in bars]
    boxes = [[(start, i - 0.36), (end, i - 0.36), (end, i + 0.36), (start, i + 0.36)] for i, end in enumerate(ends)]
    drawn = PolyCollection(boxes, facecolors=colour(0), linewidths=0)
    axes.add_collection(drawn, autolim=False)
    canvas.tell(drawn, [f"{bar.name}: {bar.words}" for bar in bars])


def _notches(axes: "Axes", bars: Sequence[Bar]) -> "Artist | None":
    from matplotlib.lines import Line2D

    known = [(i, bar.notch) for i, bar in enumerate(bars) if bar.notch is not None]
    if not known:
        return None
    places = [i for i, _ in known]
    lows, highs = [i - 0.44 for i in places], [i + 0.44 for i in places]
    shares = [share for _, share in known]
    axes.vlines(shares, lows, highs, color=BACKGROUND, linewidth=5.0)  # seen upon a bar, too
    axes.vlines(shares, lows, highs, color=INK, linewidth=2.5)
    return Line2D([], [], linestyle="", marker="|", markersize=13, markeredgewidth=2.5, color=INK)


def _levels(canvas: Canvas, axes: "Axes", bars: Sequence[Bar], name: str) -> "Artist | None":
    known = [(i, bar.name, bar.level) for i, bar in enumerate(bars) if bar.level is not None]
    if not known:
        return None
    places, names, shares = zip(*known, strict=True)
    marks = axes.scatter(
        shares, places, s=42, marker="d", facecolors=BACKGROUND, edgecolors=INK, linewidths=1.3, clip_on=False, zorder=4
    )
    canvas.tell(marks, [f"{site}, {name}: {share * 100:.1f} %" for site, share in zip(names, shares, strict=True)])
    return marks
