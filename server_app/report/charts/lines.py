"""Curves over the rounds, each named at its right end."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from server_app.report.charts.canvas import Canvas, Chart
from server_app.report.charts.scales import hold_values, whole_ticks
from server_app.report.charts.series import Series, shorten, spread_labels, value_text
from server_app.report.charts.theme import BACKGROUND, SOFT, colour, dash, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP = 17.0  # points between two names
FEW = 6  # so many curves can be told apart with a mark at every point, and with their bands


def line_chart(
    name: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    label: str,
    *,
    percent: bool = False,
    close: bool = False,
) -> Chart | None:
    """Return curves over the rounds, each named at its right end with its last value; as tall as the names need.

    Of more than `FEW` curves the page shows a band when a reader points at its curve, and a file shows none.

    Args:
        name: of the chart's files.
        series: the curves; None is returned where none has a point.
        x_label, y_label: names of the axes.
        label: what the chart shows, in words.
        percent: whether y is a share.
        close: for curves that lie close together: a taller chart, whose y axis need not begin at zero.
    """
    shown = [s for s in series if s.known]
    if not shown:
        return None
    height = max(508.0 if close else 360.0, 100 + _GAP * len(shown))

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(xlabel=x_label)
        axes.set_title(y_label, loc="left", color=SOFT)
        for i, one in enumerate(shown):
            _curve(canvas, axes, one, f"{i}", crowded=len(shown) > FEW, percent=percent)
        xs = [x for s in shown for x, _ in s.known]
        axes.set_xlim(min(xs), max(max(xs), min(xs) + 1))
        whole_ticks(axes.xaxis)
        edges = [edge for s in shown for pair in s.band if pair for edge in pair]
        hold_values(axes, [y for s in shown for _, y in s.known] + edges, percent=percent, from_zero=not close)
        _names(canvas, axes, shown, percent)

    rows = [
        [s.name, x, y, *(pair or (None, None))] if s.band else [s.name, x, y]
        for s in shown
        for (x, y), pair in zip_longest(s.points, s.band)
    ]
    banded = any(s.band for s in shown)
    columns = ["series", x_label, y_label, *(["low", "high"] if banded else [])]
    return Chart(name, label, columns, rows, height, draw)


def _curve(canvas: Canvas, axes: "Axes", series: Series, group: str, *, crowded: bool, percent: bool) -> None:
    """Draw a curve; a gap in its values is a gap in the line."""
    style, nan = series.style, float("nan")
    if series.band:
        low, high = ([nan if pair is None else pair[i] for pair in series.band] for i in (0, 1))
        xs = [x for x, _ in series.points]
        band = axes.fill_between(xs, low, high, color=colour(style), alpha=0.15, linewidth=0)
        canvas.tell(band, [series.name], group, when_pointed=crowded)
    xs, ys = [x for x, _ in series.points], [nan if y is None else y for _, y in series.points]
    (line,) = axes.plot(xs, ys, color=colour(style), linestyle=dash(style))
    canvas.tell(line, [series.name], group)
    every = max(1, len(series.known) // 4) if crowded else 1 if len(series.known) <= 40 else len(series.known) + 1
    known = list(enumerate(series.known, 1))
    marked = [(x, y) for i, (x, y) in known if (i + style) % every == 0]  # curves that run together: at other rounds
    hidden = [(x, y) for i, (x, y) in known if (i + style) % every]
    for points, alpha in ((marked, 1.0), (hidden, 0.0)):
        if points:
            spots = axes.scatter(
                *zip(*points, strict=True), s=26, marker=marker(style), color=colour(style),
                edgecolors=BACKGROUND, linewidths=0.7, alpha=alpha, zorder=3,
            )  # fmt: skip
            canvas.tell(spots, [f"{series.name}, {x:g}: {value_text(y, percent)}" for x, y in points], group)
    if series.final:
        x, y = series.known[-1]
        ring = axes.scatter([x], [y], s=75, marker=marker(style), facecolors=BACKGROUND, edgecolors=colour(style),
                            linewidths=2, zorder=4, clip_on=False)  # fmt: skip
        canvas.tell(ring, [f"{series.name}, final: {value_text(y, percent)}"], group)


def _names(canvas: Canvas, axes: "Axes", series: Sequence[Series], percent: bool) -> None:
    """Write each curve's name right of its end, none upon another."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    points = canvas.height - 90  # about as high as the axes are
    ends = [(s.known[-1][1] - low) / (high - low) * points for s in series]
    order = sorted(range(len(series)), key=lambda i: ends[i])
    places = dict(zip(order, spread_labels([ends[i] for i in order], _GAP, 0.0, points), strict=True))
    for i, one in enumerate(series):
        x, y = one.known[-1]
        words = f"{value_text(y, percent)}  {shorten(one.name, 30)}"
        start = (x - left) / (right - left), ends[i] / points
        place = places[i] / points
        xs, ys = zip(start, (1.02, place), (1.03, place), strict=True)
        (leader,) = axes.plot(
            xs, ys, transform=axes.transAxes, clip_on=False, color=colour(one.style), linewidth=0.7, alpha=0.7
        )
        name = axes.text(1.035, places[i] / points, words, transform=axes.transAxes, va="center")
        canvas.tell(leader, [one.name], f"{i}")
        canvas.tell(name, [one.name], f"{i}")
