"""Line, scatter and bar charts as inline SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from common.markup import escape_html as escape
from server_app.report.axes import (
    DASHES,
    Axis,
    colour,
    count_axis,
    count_ticks,
    form,
    line,
    mark,
    nice_ticks,
    svg,
    text,
    value_axis,
    x_ticks,
    y_grid,
)

WIDTH = 900.0
LEFT = 56.0
_LABELS = 280.0  # room right of a line chart for the names of its curves
_GAP = 17.0  # pixels between two of these names
_FEW = 6  # so many curves can be told apart with a mark at every point


@dataclass(frozen=True)
class Series:
    """One curve or cloud: name, points (x, y; y may be unknown), style; `final` marks the last point."""

    name: str
    points: Sequence[tuple[float, float | None]]
    style: int
    final: bool = False

    @property
    def known(self) -> list[tuple[float, float]]:
        """The points whose y is known."""
        return [(x, y) for x, y in self.points if y is not None]


def legend(series: Sequence[Series]) -> str:
    """Return the names of the series beside their markers."""
    items = "".join(
        f'<li><svg viewBox="-7 -7 14 14" aria-hidden="true">{mark(s.style, 0, 0)}</svg>{escape(s.name)}</li>'
        for s in series
    )
    return f'<ul class="legend">{items}</ul>'


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    label: str,
    *,
    percent: bool = False,
    close: bool = False,
) -> str:
    """Return curves over the rounds, each named at its right end with its last value; as tall as the names need.

    `close` is for curves that lie close together: a taller chart, whose y axis need not begin at zero.
    """
    shown = [s for s in series if s.known]
    if not shown:
        return ""
    top, right = 34.0, WIDTH - _LABELS
    bottom = max(460.0 if close else 312.0, 20 + _GAP * len(shown))
    xs = [x for s in shown for x, _ in s.known]
    x_axis = Axis(min(xs), max(max(xs), min(xs) + 1), LEFT, right)
    y_axis = value_axis([y for s in shown for _, y in s.known], bottom, top, percent=percent, from_zero=not close)
    parts = y_grid(y_axis, LEFT, right, y_label)
    whole = [(t, x_axis.text(t)) for t in nice_ticks(x_axis.low, x_axis.high, 8) if t == int(t)]
    parts += x_ticks(x_axis, bottom, x_label, whole)
    crowded = len(shown) > _FEW
    for one, name in zip(shown, _end_labels(shown, x_axis, y_axis), strict=True):
        parts += [
            f'<g class="series"><title>{escape(one.name)}</title>',
            *_curve(one, x_axis, y_axis, crowded),
            *name,
            "</g>",
        ]
    return svg(parts, WIDTH, bottom + 48, label)


def _curve(series: Series, x_axis: Axis, y_axis: Axis, crowded: bool) -> list[str]:
    drawn, pen = [], "M"
    for x, y in series.points:
        if y is None:  # a gap in the values is a gap in the curve
            pen = "M"
            continue
        drawn.append(f"{pen}{x_axis.at(x):g} {y_axis.at(y):g}")
        pen = "L"
    dash = DASHES[form(series.style)]
    parts = [f'<path d="{"".join(drawn)}" class="curve {colour(series.style)}" stroke-dasharray="{dash}"/>']
    count = len(series.known)
    every = max(1, count // 4) if crowded else 1 if count <= 40 else count + 1
    for i, (x, y) in enumerate(series.known, 1):
        title = f"{series.name}, {x:g}: {value_text(y, y_axis.percent)}"
        shown = (i + series.style) % every == 0  # curves that run together have their marks at different rounds
        parts.append(mark(series.style, x_axis.at(x), y_axis.at(y), title, "dot" if shown else "dot hit", 0.7))
    if series.final:
        x, y = series.known[-1]
        title = f"{series.name}, final: {value_text(y, y_axis.percent)}"
        parts.append(mark(series.style, x_axis.at(x), y_axis.at(y), title, "ring", 1.3))
    return parts


def _end_labels(series: Sequence[Series], x_axis: Axis, y_axis: Axis) -> list[list[str]]:
    """Return each curve's name at the right end, in the order of the series, none upon another."""
    ends = [y_axis.at(s.known[-1][1]) for s in series]
    order = sorted(range(len(series)), key=lambda i: ends[i])
    places = dict(zip(order, spread_labels([ends[i] for i in order], _GAP, 20.0, y_axis.start), strict=True))
    labels, x = [], x_axis.end + 22
    for i, one in enumerate(series):
        words = f"{value_text(one.known[-1][1], y_axis.percent)}  {shorten(one.name, 30)}"
        leader = line(x_axis.at(one.known[-1][0]) + 8, ends[i], x - 2, places[i], "leader")
        labels.append([leader, mark(one.style, x + 6, places[i]), text(x + 16, places[i] + 4, words, "start")])
    return labels


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


def scatter_chart(
    series: Sequence[Series],
    names: Sequence[str],
    y_label: str,
    label: str,
    *,
    percent: bool = False,
    close: bool = False,
) -> str:
    """Return points over class counts (log axis); `names` are those of the points, in every series.

    `close` is for points that lie close together: the y axis need not begin at zero, the x axis not span a decade.
    """
    shown = [s for s in series if s.known]
    if not shown:
        return ""
    height, top, bottom, right = 360.0, 34.0, 312.0, WIDTH - 20
    x_axis = count_axis([x for s in shown for x, _ in s.known], LEFT, right, 2.0 if close else 10.0)
    y_axis = value_axis([y for s in shown for _, y in s.known], bottom, top, percent=percent, from_zero=not close)
    parts = y_grid(y_axis, LEFT, right, y_label)
    parts += x_ticks(x_axis, bottom, "training images of the class (log scale)", count_ticks(x_axis))
    for i, one in enumerate(shown):
        scale = max(1.5 - 0.45 * i, 0.6)  # marks at the same place stay apart
        for name, (x, y) in zip(names, one.points, strict=False):
            if y is not None:
                title = f"{name} ({x:,.0f} images), {one.name}: {value_text(y, percent)}"
                parts.append(mark(one.style, x_axis.at(x), y_axis.at(y), title, "open", scale))
    return legend(shown) + svg(parts, WIDTH, height, label)


@dataclass(frozen=True)
class Bar:
    """One bar: its name, length (a share), words at its end, and the share that the notch marks."""

    name: str
    value: float | None
    words: str
    notch: float | None = None


def bar_chart(bars: Sequence[Bar], label: str, notch_name: str = "") -> str:
    """Return horizontal bars of shares from 0 to 100 %, one a row, each with its name and words."""
    if not bars:
        return ""
    row, top, left, right = (18.0 if len(bars) > 12 else 24.0), 26.0, 150.0, WIDTH - 190
    bottom = top + row * len(bars)
    axis = Axis(0.0, 1.0, left, right, percent=True)
    parts = [line(axis.at(t), top, axis.at(t), bottom) for t in axis.ticks()]
    parts += [text(axis.at(t), top - 8, axis.text(t)) for t in axis.ticks()]
    for i, bar in enumerate(bars):
        y = top + row * i
        parts.append(text(left - 8, y + row / 2 + 4, shorten(bar.name, 20), "end"))
        end = axis.at(bar.value or 0.0)
        title = f"<title>{escape(f'{bar.name}: {bar.words}')}</title>"
        box = f'x="{left:g}" y="{y + 3:g}" width="{end - left:.1f}" height="{row - 6:g}"'
        parts.append(f'<rect {box} class="bar">{title}</rect>')
        if bar.notch is not None:
            parts.append(line(axis.at(bar.notch), y + 1, axis.at(bar.notch), y + row - 1, "notch"))
        parts.append(text(right + 10, y + row / 2 + 4, bar.words, "start"))
    key = ""
    if any(bar.notch is not None for bar in bars):
        sample = f'<svg viewBox="-7 -7 14 14" aria-hidden="true">{line(0, -7, 0, 7, "notch")}</svg>'
        key = f'<ul class="legend"><li>{sample}{escape(notch_name)}</li></ul>'
    return key + svg(parts, WIDTH, bottom + 6, label)


def rank_ticks(count: int) -> list[int]:
    """Return 1 and about ten round ranks up to `count`."""
    ticks = [1] + [int(t) for t in nice_ticks(0, count, 10) if t >= 2 and t == int(t)]
    gap = max((b - a for a, b in pairwise(ticks[1:])), default=1)
    return [t for t in ticks if t == 1 or t > gap / 2]


def text_width(words: str) -> float:
    """Return about how many pixels the words take in the charts."""
    return 7.0 * len(words)


def shorten(name: str, length: int) -> str:
    """Return the name cut to at most `length` characters."""
    return name if len(name) <= length else name[: length - 1] + "…"


def value_text(value: float, percent: bool) -> str:
    """Return a value as the charts write it."""
    return f"{value * 100:.1f} %" if percent else f"{value:.3g}"
