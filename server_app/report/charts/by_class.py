"""A metric of each class below the class's training images, with the means of many, medium and few."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING

from server_app.report.charts.canvas import Canvas, Chart
from server_app.report.charts.legend import legend, legend_height, open_marks
from server_app.report.charts.places import text_width
from server_app.report.charts.scales import (
    ZERO,
    count_limits,
    count_ticks,
    draw_level,
    in_percent,
    rank_ticks,
)
from server_app.report.charts.series import Series, shorten, value_text
from server_app.report.charts.theme import SOFT, area, colour, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMED = 40  # up to so many classes are named below the chart; more are ranked
_LETTERS = 16  # of a class's name
_PLOT = 840.0  # points
_COUNTS, _METRIC = 130.0, 250.0  # points


@dataclass(frozen=True)
class Classes:
    """The classes of a chart, from left to right.

    Attributes:
        names: of the classes.
        counts: training images of each; empty where they are unknown.
        groups: 'many', 'medium', 'few' or '' of each.
    """

    names: Sequence[str]
    counts: Sequence[float]
    groups: Sequence[str]

    @property
    def spans(self) -> list[tuple[str, int, int]]:
        """Each group with the places of its first and last class."""
        placed = groupby(enumerate(self.groups), key=lambda pair: pair[1])
        found = [(group, [place for place, _ in members]) for group, members in placed]
        return [(group, places[0], places[-1]) for group, places in found if group]


def by_class_chart(
    name: str,
    classes: Classes,
    series: Sequence[Series],
    y_label: str,
    label: str,
    *,
    guess: float | None = None,
) -> Chart | None:
    """Return image counts above, shares by class below; horizontal lines are the means of the groups.

    Args:
        name: of the chart's files.
        classes: from left to right.
        series: clouds of (place of the class, share); None is returned where none has a point.
        y_label: name of the shares.
        label: what the chart shows, in words.
        guess: the share that guessing gets: the axis begins there where none is below, a line is drawn there.
    """
    shown = [s for s in series if s.known]
    if not shown:
        return None
    turned = _turned(classes.names)

    def draw(canvas: Canvas) -> None:
        if classes.counts:
            parts = canvas.figure.subplots(2, sharex=True, height_ratios=[_COUNTS, _METRIC])
            _counts(canvas, parts[0], classes)
            top, axes = parts
        else:
            top = axes = canvas.axes()
        axes.set_title(y_label, loc="left", color=SOFT, pad=None if classes.counts else 20)
        axes.set_xlim(-0.5, len(classes.names) - 0.5)
        axes.grid(visible=False, axis="x")
        least = min(y for s in shown for _, y in s.known)
        axes.set_ylim(guess if guess is not None and least >= guess else 0.0, 1.0)
        in_percent(axes.yaxis)
        if guess is not None:
            draw_level(axes, guess)
        _groups(top, axes, classes, shown)
        _marks(canvas, axes, classes.names, shown)
        _class_names(axes, classes.names, turned)
        legend(canvas, open_marks(shown), [s.name for s in shown])

    rows = [
        [word, classes.groups[i], classes.counts[i] if classes.counts else None, *(s.points[i][1] for s in shown)]
        for i, word in enumerate(classes.names)
    ]
    columns = ["class", "group", "training images", *(f"{y_label}, {s.name}" for s in shown)]
    height = _METRIC + 40 + (_COUNTS + 50 if classes.counts else 40) + legend_height([s.name for s in shown])
    return Chart(name, label, columns, rows, height + (0.64 * _longest(classes.names) if turned else 0.0), draw)


def _counts(canvas: Canvas, axes: "Axes", classes: Classes) -> None:
    from matplotlib.collections import PolyCollection

    low, high = count_limits(classes.counts)
    axes.set_title("training images (log scale)", loc="left", color=SOFT, pad=20)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks = count_ticks(low, high, sparse=True)
    axes.set_yticks([value for value, _ in ticks], [words for _, words in ticks])
    axes.set_yticks([], minor=True)
    axes.grid(visible=False, axis="x")
    boxes = [
        [(i - 0.4, low), (i - 0.4, max(n, ZERO)), (i + 0.4, max(n, ZERO)), (i + 0.4, low)]
        for i, n in enumerate(classes.counts)
    ]
    bars = PolyCollection(boxes, facecolors=SOFT, alpha=0.6, linewidths=0)
    axes.add_collection(bars, autolim=False)
    tips = [f"{name}: {n:,.0f} training images" for name, n in zip(classes.names, classes.counts, strict=True)]
    canvas.tell(bars, tips)
    axes.tick_params(axis="x", labelbottom=False, length=0)


def _groups(top: "Axes", axes: "Axes", classes: Classes, series: Sequence[Series]) -> None:
    """Draw lines between many, medium and few, their names, and each series' mean within them."""
    spans = classes.spans
    for part in {top, axes}:
        part.vlines(
            [last + 0.5 for _, _, last in spans[:-1]], 0, 1, transform=part.get_xaxis_transform(), color=SOFT,
            linewidth=1.0, linestyles=(0, (4, 3)),
        )  # fmt: skip
    for group, first, last in spans:
        words = f"{group} ({last - first + 1})"
        top.text((first + last) / 2, 1.03, words, transform=top.get_xaxis_transform(), ha="center", color=SOFT)
    for _, first, last in spans:
        means = [(one.style, fmean(known)) for one in series if (known := _within(one, first, last))]
        for i, (style, mean) in enumerate(means if last > first else []):
            upon = any(abs(mean - other) < 0.01 for _, other in means[i + 1 :])  # wide, so that it is seen below these
            width, alpha = (5.0, 0.45) if upon else (1.6, 1.0)
            axes.hlines(mean, first - 0.45, last + 0.45, color=colour(style), linewidth=width, alpha=alpha)


def _within(series: Series, first: int, last: int) -> list[float]:
    return [y for x, y in series.known if first <= x <= last]


def _marks(canvas: Canvas, axes: "Axes", names: Sequence[str], series: Sequence[Series]) -> None:
    """Draw open marks, side by side within a class and of different sizes, so that equal values are all seen."""
    large = 7.6 if len(names) <= 50 else 5.6 if len(names) <= 150 else 3.6
    apart = 0.36 / max(len(series) - 1, 1)
    places = [(i - (len(series) - 1) / 2) * apart for i in range(len(series))]
    if len(series) == 2:
        both = [
            [(x + places[0], a), (x + places[1], b)]
            for (x, a), (_, b) in zip(series[0].points, series[1].points, strict=True)
            if a is not None and b is not None
        ]
        _stems(axes, both)
    for i, one in enumerate(series):
        xs, ys = zip(*one.known, strict=True)
        marks = axes.scatter(
            [x + places[i] for x in xs], ys, s=area(large * 0.8**i, one.style), marker=marker(one.style),
            facecolors="none", edgecolors=colour(one.style), linewidths=1.6 if len(names) <= 150 else 0.9,
            clip_on=False, zorder=3,
        )  # fmt: skip
        canvas.tell(marks, [f"{names[int(x)]}, {one.name}: {value_text(y, True)}" for x, y in one.known])


def _stems(axes: "Axes", lines: Sequence[Sequence[tuple[float, float]]]) -> None:
    from matplotlib.collections import LineCollection

    axes.add_collection(LineCollection(lines, colors=SOFT, linewidths=1.0, alpha=0.6), autolim=False)


def _class_names(axes: "Axes", names: Sequence[str], turned: bool) -> None:
    """Write names below the chart, ranks where there are many classes."""
    if len(names) > _NAMED:
        axes.set_xticks([rank - 1 for rank in rank_ticks(len(names))], [f"{rank}" for rank in rank_ticks(len(names))])
        axes.set_xlabel("class by number of training images (1 = most); names on hover and in the table")
        return
    style = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    axes.set_xticks(range(len(names)), [shorten(name, _LETTERS) for name in names], **style)
    axes.tick_params(axis="x", length=0)


def _turned(names: Sequence[str]) -> bool:
    """Whether the names are too long to stand side by side."""
    return len(names) <= _NAMED and _longest(names) > _PLOT / len(names)


def _longest(names: Sequence[str]) -> float:
    """Return about how many points the longest name takes, as the chart writes it."""
    return max((text_width(shorten(name, _LETTERS)) for name in names), default=0.0)
