"""Curves over the rounds, each named at its right end."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from server_app.report.charts.canvas import Canvas, Chart
from server_app.report.charts.scales import draw_level, hold_values, whole_ticks
from server_app.report.charts.series import Key, Level, Series, shorten, spread_labels, value_text
from server_app.report.charts.theme import BACKGROUND, SOFT, area, colour, dash, marker

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
    guess: float | None = None,
    level: Level | None = None,
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
        guess: the y that guessing gets, see `hold_values`.
        level: what else to measure the curves by, named as they are.
    """
    shown = [s for s in series if s.known]
    if not shown:
        return None
    height = max(508.0 if close else 360.0, 100 + _GAP * (len(shown) + (level is not None)))

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(xlabel=x_label)
        axes.set_title(y_label, loc="left", color=SOFT)
        xs = [x for s in shown for x, _ in s.known]
        axes.set_xlim(min(xs), max(max(xs), min(xs) + 1, min(xs) * (1 + 1e-9)))
        whole_ticks(axes.xaxis)
        values = [y for s in shown for _, y in s.known] + ([level.value] if level else [])
        edges = [edge for s in shown for pair in s.band if pair for edge in pair]
        hold_values(axes, values + edges, percent=percent, from_zero=not close, guess=guess)
        _curves(canvas, axes, shown, percent)
        if level is not None:
            canvas.tell(draw_level(axes, level.value), [f"{level.name}: {value_text(level.value, percent)}"], "level")
        _names(canvas, axes, shown, percent, level)

    rows: list[list[str | float | None]] = [
        [s.name, x, y, *(pair or (None, None))] if s.band else [s.name, x, y]
        for s in shown
        for (x, y), pair in zip_longest(s.points, s.band)
    ]
    rows += [[level.name, None, level.value]] if level else []
    banded = any(s.band for s in shown)
    columns = ["series", x_label, y_label, *(["low", "high"] if banded else [])]
    return Chart(name, label, columns, rows, height, draw, _key(shown, percent, level))


def _key(series: Sequence[Series], percent: bool, level: Level | None) -> list[Key]:
    """Return the names of the curves in whole, which stand right of them, the highest last value first."""
    ranked = sorted(((s.known[-1][1], s) for s in series), key=lambda pair: -pair[0])
    found = [Key(f"{value_text(y, percent)} {s.name}", colour(s.style), marker(s.style)) for y, s in ranked]
    return found + ([Key(f"{value_text(level.value, percent)} {level.name}", SOFT, "_")] if level else [])


def _curves(canvas: Canvas, axes: "Axes", series: Sequence[Series], percent: bool) -> None:
    """Draw the curves; one that others run upon is wide and pale, so that it is seen below them."""
    low, high = axes.get_ylim()
    reach = (high - low) / 100
    crowded = len(series) > FEW  # then wide ones would hide the others
    for i, one in enumerate(series):
        _band(canvas, axes, one, f"{i}", crowded=crowded)
        upon = 0 if crowded else sum(_together(one, other, reach) for other in series[i + 1 :])
        _curve(canvas, axes, one, f"{i}", upon)
        _marks(canvas, axes, one, f"{i}", percent, crowded=crowded, upon=upon)
        if one.final:
            _ring(canvas, axes, one, f"{i}", percent, series[i + 1 :], 2 * reach)


def _ring(
    canvas: Canvas, axes: "Axes", one: Series, group: str, percent: bool, later: Sequence[Series], reach: float
) -> None:
    """Draw the hollow mark of a final value, larger where those of later curves are upon it."""
    x, y = one.known[-1]
    ends = [other.known[-1] for other in later if other.final]
    upon = sum(x == there and abs(y - value) < reach for there, value in ends)
    ring = axes.scatter(
        [x], [y], s=area(8.0 + 5.0 * upon, one.style), marker=marker(one.style),
        facecolors="none" if upon else BACKGROUND, edgecolors=colour(one.style), linewidths=2, zorder=4, clip_on=False,
    )  # fmt: skip
    canvas.tell(ring, [f"{one.name}, final: {value_text(y, percent)}"], group)


def _together(one: Series, other: Series, reach: float) -> bool:
    """Whether two curves run within `reach` of each other for most of the way."""
    values = dict(other.known)
    apart = [abs(y - values[x]) for x, y in one.known if x in values]
    return len(apart) > 1 and sum(gap < reach for gap in apart) > len(apart) / 2


def _band(canvas: Canvas, axes: "Axes", series: Series, group: str, *, crowded: bool) -> None:
    if series.band:
        nan = float("nan")
        low, high = ([nan if pair is None else pair[i] for pair in series.band] for i in (0, 1))
        xs = [x for x, _ in series.points]
        band = axes.fill_between(xs, low, high, color=colour(series.style), alpha=0.15, linewidth=0)
        canvas.tell(band, [series.name], group, when_pointed=crowded)


def _curve(canvas: Canvas, axes: "Axes", series: Series, group: str, upon: int) -> None:
    """Draw a curve; a gap in its values is a gap in the line."""
    xs, ys = [x for x, _ in series.points], [float("nan") if y is None else y for _, y in series.points]
    style = {"linewidth": 2.0 + 4.0 * upon, "alpha": 0.4, "solid_capstyle": "butt"} if upon else {}
    line_style = "-" if upon else dash(series.style)
    (line,) = axes.plot(xs, ys, color=colour(series.style), linestyle=line_style, zorder=2 if upon else 2.1, **style)
    canvas.tell(line, [series.name], group)


def _marks(
    canvas: Canvas, axes: "Axes", series: Series, group: str, percent: bool, *, crowded: bool, upon: int
) -> None:
    """Draw a mark at every point, or at some of them; each has its value as a tooltip."""
    style, count = series.style, len(series.known)
    every = max(1, count // 4) if crowded else 1 if count <= 40 else count + 1
    known = list(enumerate(series.known, 1))
    marked = [(x, y) for i, (x, y) in known if (i + style) % every == 0]  # curves that run together: at other rounds
    hidden = [(x, y) for i, (x, y) in known if (i + style) % every]
    for points, alpha in ((marked, 1.0), (hidden, 0.0)):
        if points:
            xs, ys = zip(*points, strict=True)
            spots = axes.scatter(
                xs, ys, s=area(5.8 + 3.5 * upon, style), marker=marker(style), color=colour(style),
                edgecolors=BACKGROUND, linewidths=0.6, alpha=alpha, zorder=2.5 if upon else 3, clip_on=False,
            )  # fmt: skip
            canvas.tell(spots, [f"{series.name}, {x:g}: {value_text(y, percent)}" for x, y in points], group)


def _names(canvas: Canvas, axes: "Axes", series: Sequence[Series], percent: bool, level: Level | None) -> None:
    """Write each curve's name, behind its mark, right of its end, none upon another."""
    right = axes.get_xlim()[1]
    ends = [(*s.known[-1], s.name, colour(s.style), marker(s.style), f"{i}") for i, s in enumerate(series)]
    ends += [(right, level.value, level.name, SOFT, "_", "level")] if level else []
    points = canvas.height - 90  # about as high as the axes are
    starts = [axes.transAxes.inverted().transform(axes.transData.transform((x, y))) for x, y, *_ in ends]
    order = sorted(range(len(ends)), key=lambda i: starts[i][1])
    spread = spread_labels([starts[i][1] * points for i in order], _GAP, 0.0, points)
    places = dict(zip(order, (place / points for place in spread), strict=True))
    for i, (_, y, name, ink, shape, group) in enumerate(ends):
        style = {"transform": axes.transAxes, "clip_on": False, "color": ink}
        xs, ys = zip(starts[i], (1.02, places[i]), (1.03, places[i]), strict=True)
        (leader,) = axes.plot(xs, ys, linewidth=0.7, alpha=0.7, **style)
        (mark,) = axes.plot([1.042], [places[i]], marker=shape, markersize=6.5, linestyle="", **style)
        words = f"{value_text(y, percent)}  {shorten(name, 30)}"
        text = axes.text(1.056, places[i], words, transform=axes.transAxes, va="center")
        for artist in (leader, mark, text):
            canvas.tell(artist, [name], group)
