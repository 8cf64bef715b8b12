"""Named things over two axes of shares: one mark each, with whiskers."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import TYPE_CHECKING

from server_app.report.charts.canvas import WIDTH, Canvas, Chart
from server_app.report.charts.places import Frame, name_frame, place_names, text_width
from server_app.report.charts.scales import in_percent
from server_app.report.charts.series import shorten, spread_labels, value_text
from server_app.report.charts.theme import BACKGROUND, RULE, SOFT, colour, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEFT, _TOP, _RIGHT, _BOTTOM = 64.0, 34.0, WIDTH - 30, 440.0  # of the axes, in points from the top left
_HEIGHT = 488.0
_STRIP = 150.0  # room left of the x axis for points without an x
_LINE = 15.0  # between names in the strip


@dataclass(frozen=True)
class Point:
    """One named mark: shares x (None: it has none) and y, their standard deviations (0: unknown), style."""

    name: str
    x: float | None
    y: float
    x_spread: float
    y_spread: float
    style: int

    @property
    def label(self) -> str:
        """The name as the chart writes it."""
        return shorten(self.name, 32)


def plane_chart(
    name: str, points: Sequence[Point], x_label: str, y_label: str, label: str, *, no_x: str
) -> Chart | None:
    """Return named marks over two axes of shares, with whiskers of one standard deviation.

    Args:
        name: of the chart's files.
        points: the marks; those without an x stand in a strip of their own at the left. None is returned for none.
        x_label, y_label: names of the axes.
        label: what the chart shows, in words.
        no_x: the name of the strip.
    """
    if not points:
        return None

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes_within(_LEFT, _TOP, _RIGHT, _BOTTOM)
        strip_x = _set_axes(axes, points, x_label, y_label, no_x)
        where = [(strip_x if p.x is None else p.x, p.y) for p in points]
        ends = [_ends(p, spot) for p, spot in zip(points, where, strict=True)]
        spots = canvas.spots(axes, where)
        places = _places(points, spots, [_frame(canvas.spots(axes, pair)) for four in ends for pair in four])
        over = canvas.bare_axes()
        for i, point in enumerate(points):
            _draw(canvas, axes, point, where[i], ends[i], f"{i}")
            _name(canvas, over, point, spots[i], places[i], f"{i}")

    rows = [[p.name, p.x, p.x_spread or None, p.y, p.y_spread or None] for p in points]
    columns = ["name", x_label, f"{x_label}: standard deviation", y_label, f"{y_label}: standard deviation"]
    return Chart(name, label, columns, rows, _HEIGHT, draw)


def _set_axes(axes: "Axes", points: Sequence[Point], x_label: str, y_label: str, no_x: str) -> float:
    """Set both axes, that of x right of the strip; return where in the strip the marks stand."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    axes.set_title(y_label, loc="left", color=SOFT)
    axes.set_ylim(*_range([p.y + s for p in points for s in (-p.y_spread, p.y_spread)]))
    low, high = _range([p.x + s for p in points if p.x is not None for s in (-p.x_spread, p.x_spread)])
    in_percent(axes.xaxis)
    in_percent(axes.yaxis)
    strip = _STRIP / (_RIGHT - _LEFT - _STRIP) * (high - low) if any(p.x is None for p in points) else 0.0
    axes.set_xlim(low - strip, high)
    known = any(p.x is not None for p in points)
    ticks = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(low, high) if known else []
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    if known:
        axes.set_xlabel(x_label)
    if strip:
        axes.axvline(low - 0.16 * strip, color=RULE, linewidth=1.5, linestyle=(0, (4, 3)))
        axes.text(low - 0.58 * strip, -0.02, no_x, transform=axes.get_xaxis_transform(), ha="center", va="top")
    return low - 0.87 * strip


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis that holds the values, with some room."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.06 * (high - low) or 0.05
    return low - room, high + room


def _ends(point: Point, spot: tuple[float, float]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return the ends of a point's whiskers."""
    x, y = spot
    return [((x - point.x_spread, y), (x + point.x_spread, y)), ((x, y - point.y_spread), (x, y + point.y_spread))]


def _frame(ends: Sequence[tuple[float, float]]) -> Frame:
    """Return the frame around two points."""
    xs, ys = zip(*ends, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _places(
    points: Sequence[Point], spots: Sequence[tuple[float, float]], whiskers: Sequence[Frame]
) -> list[tuple[float, float]]:
    """Return the left end and base line of each name: in the strip one below the other, elsewhere near its mark."""
    widths = [text_width(p.label) for p in points]
    places = [(0.0, 0.0)] * len(points)
    strip = sorted((i for i, p in enumerate(points) if p.x is None), key=lambda i: spots[i][1])
    for i, y in zip(strip, spread_labels([spots[i][1] for i in strip], _LINE, _TOP, _BOTTOM), strict=True):
        places[i] = (spots[i][0] + 12, y + 4)
    taken = [name_frame(places[i], widths[i]) for i in strip]
    others = [i for i, p in enumerate(points) if p.x is not None]
    box = (_LEFT, _TOP, WIDTH, _BOTTOM)
    found = place_names([spots[i] for i in others], [widths[i] for i in others], box, [*taken, *whiskers])
    for i, place in zip(others, found, strict=True):
        places[i] = place
    return places


def _draw(
    canvas: Canvas,
    axes: "Axes",
    point: Point,
    spot: tuple[float, float],
    ends: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    group: str,
) -> None:
    """Draw a point's whiskers and its mark."""
    from matplotlib.collections import LineCollection

    tip = f"{point.name}: {value_text(point.y, True)}"
    if point.x is not None:
        tip = f"{point.name}: {value_text(point.x, True)}, {value_text(point.y, True)}"
    lines = axes.add_collection(LineCollection(ends, colors=colour(point.style), linewidths=1.2, alpha=0.6))
    mark = axes.scatter(
        *([value] for value in spot), s=55, marker=marker(point.style), color=colour(point.style),
        edgecolors=BACKGROUND, linewidths=0.7, zorder=4,
    )  # fmt: skip
    canvas.tell(lines, [tip], group)
    canvas.tell(mark, [tip], group)


def _name(
    canvas: Canvas, axes: "Axes", point: Point, spot: tuple[float, float], place: tuple[float, float], group: str
) -> None:
    """Write a point's name, and draw a line between it and the mark where they are apart."""
    (x, y), (left, top, right, bottom) = spot, name_frame(place, text_width(point.label))
    near = min(max(x, left), right), min(max(y, top), bottom)
    if hypot(near[0] - x, near[1] - y) > 13:
        (leader,) = axes.plot(*zip(spot, near, strict=True), color=SOFT, linewidth=0.7)
        canvas.tell(leader, [point.name], group)
    canvas.tell(axes.text(*place, point.label), [point.name], group)
