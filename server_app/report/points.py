"""Charts that compare named things: a row of marks each, or one mark each over two axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import hypot
from typing import TypeAlias

from server_app.report.axes import Axis, line, mark, svg, text, value_axis, x_ticks, y_grid
from server_app.report.charts import LEFT, WIDTH, Series, legend, shorten, spread_labels, text_width, value_text

Frame: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom in pixels
_STRIP = 150.0  # room left of the x axis for points without an x
_LINE = 13.0  # height of a name


def dot_chart(names: Sequence[str], series: Sequence[Series], label: str) -> str:
    """Return a row of marks for each name, over shares from the first point's to the last's.

    Args:
        names: the rows, from the top.
        series: one mark a row; its points are (row index, share or None).
        label: what the chart shows, in words.
    """
    known = [y for s in series for _, y in s.known]
    if not known:
        return ""
    row, top, left = 24.0, 26.0, 210.0
    bottom = top + row * len(names)
    axis = value_axis([0.0, *known], left, WIDTH - 30, percent=True)
    parts = [line(axis.at(t), top, axis.at(t), bottom) for t in axis.ticks()]
    parts += [text(axis.at(t), top - 8, axis.text(t)) for t in axis.ticks()]
    for i, name in enumerate(names):
        y = top + row * (i + 0.5)
        parts.append(text(left - 12, y + 4, shorten(name, 30), "end"))
        here = [share for s in series for x, share in s.known if x == i]
        if here:
            parts.append(line(axis.at(min(here)), y, axis.at(max(here)), y, "stem"))
        for one in series:
            title = f"{name}, {one.name}: "
            marks = [(axis.at(share), title + value_text(share, True)) for x, share in one.known if x == i]
            parts += [mark(one.style, x, y, words, scale=1.2) for x, words in marks]
    return legend(series) + svg(parts, WIDTH, bottom + 6, label)


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


def plane_chart(points: Sequence[Point], x_label: str, y_label: str, label: str, *, no_x: str) -> str:
    """Return named marks over two axes of shares, with whiskers of one standard deviation.

    Args:
        points: the marks; those without an x stand in a strip of their own at the left.
        x_label, y_label: names of the axes.
        label: what the chart shows, in words.
        no_x: the name of the strip.
    """
    if not points:
        return ""
    top, bottom, right = 34.0, 440.0, WIDTH - 30
    strip = any(point.x is None for point in points)
    xs = [p.x + s for p in points if p.x is not None for s in (-p.x_spread, p.x_spread)]
    x_axis = value_axis(xs, LEFT + _STRIP * strip, right, percent=True, from_zero=False)
    ys = [p.y + s for p in points for s in (-p.y_spread, p.y_spread)]
    y_axis = value_axis(ys, bottom, top, percent=True, from_zero=False)
    parts = y_grid(y_axis, LEFT, right, y_label)
    if xs:
        parts += x_ticks(x_axis, bottom, x_label)
        parts += [line(x_axis.at(t), top, x_axis.at(t), bottom) for t in x_axis.ticks()]
    if strip:
        parts.append(text(LEFT + _STRIP / 2 - 16, bottom + 17, no_x))
        parts.append(line(LEFT + _STRIP - 24, top, LEFT + _STRIP - 24, bottom, "cut"))
    spots = [(LEFT + 20 if p.x is None else x_axis.at(p.x), y_axis.at(p.y)) for p in points]
    whiskers = [_whiskers(p, spot, x_axis, y_axis) for p, spot in zip(points, spots, strict=True)]
    places = _places(points, spots, whiskers, (LEFT, top, WIDTH, bottom))
    for point, spot, pair, place in zip(points, spots, whiskers, places, strict=True):
        parts += ['<g class="series">', *(line(*frame, "stem") for frame in pair), *_named(point, spot, place), "</g>"]
    return svg(parts, WIDTH, bottom + 48, label)


def _places(
    points: Sequence[Point], spots: Sequence[tuple[float, float]], whiskers: Sequence[Sequence[Frame]], box: Frame
) -> list[tuple[float, float]]:
    """Return where the names go: in the strip one below the other, elsewhere near their marks."""
    places = [(0.0, 0.0)] * len(points)
    strip = sorted((i for i, p in enumerate(points) if p.x is None), key=lambda i: spots[i][1])
    for i, y in zip(strip, spread_labels([spots[i][1] for i in strip], _LINE + 2, box[1], box[3]), strict=True):
        places[i] = (spots[i][0] + 28, y + 4)
    taken = [_frame(places[i], text_width(points[i].label)) for i in strip]
    taken += [frame for lines in whiskers for frame in lines]
    others = [i for i, p in enumerate(points) if p.x is not None]
    names = place_names([spots[i] for i in others], [text_width(points[i].label) for i in others], box, taken)
    for i, place in zip(others, names, strict=True):
        places[i] = place
    return places


def _whiskers(point: Point, spot: tuple[float, float], x_axis: Axis, y_axis: Axis) -> list[Frame]:
    x, y = spot
    lines = [(x, y_axis.at(point.y + point.y_spread), x, y_axis.at(point.y - point.y_spread))]
    if point.x is not None:
        lines.append((x_axis.at(point.x - point.x_spread), y, x_axis.at(point.x + point.x_spread), y))
    return lines


def _named(point: Point, spot: tuple[float, float], place: tuple[float, float]) -> list[str]:
    """Return a point's mark and name, and a line between the two where they are apart."""
    left, top, right, bottom = _frame(place, text_width(point.label))
    (x, y), middle = spot, (left + right) / 2
    near = min(max(x, left), right), min(max(y, top), bottom)
    apart = hypot(near[0] - x, near[1] - y) > 13
    title = f"{point.name}: {value_text(point.y, True)}"
    if point.x is not None:
        title = f"{point.name}: {value_text(point.x, True)}, {value_text(point.y, True)}"
    name = text(left, bottom - 3, point.label, "start") if point.x is None else text(middle, bottom - 3, point.label)
    return [line(x, y, *near, "leader") if apart else "", mark(point.style, x, y, title, scale=1.3), name]


def place_names(
    spots: Sequence[tuple[float, float]], widths: Sequence[float], box: Frame, lines: Sequence[Frame] = ()
) -> list[tuple[float, float]]:
    """Return the left end and base line [pixels] of each name: as near to its spot as it is free.

    Args:
        spots: where the marks are.
        widths: of the names.
        box: what the names keep within.
        lines: what they keep clear of beside the marks and each other.
    """
    taken = [(left, top - 3, right, bottom + 3) for left, top, right, bottom in lines]
    taken += [(x - 7, y - 7, x + 7, y + 7) for x, y in spots]
    places = []
    for (x, y), width in zip(spots, widths, strict=True):
        across = (11.0, -11 - width, 24.0, -24 - width, -width / 2)
        ways = [(x + dx, y + 4 + 6 * dy) for dx, dy in product(across, range(-20, 21))]
        ways.sort(key=lambda way: _distance((x, y), _frame(way, width)))
        free = (way for way in ways if _free(_frame(way, width), box, taken))
        inside = (way for way in ways if _free(_frame(way, width), box, ()))
        place = next(free, None) or next(inside, ways[0])
        taken.append(_frame(place, width))
        places.append(place)
    return places


def _frame(place: tuple[float, float], width: float) -> Frame:
    left, base = place
    return left, base - _LINE + 3, left + width, base + 3


def _distance(spot: tuple[float, float], frame: Frame) -> float:
    """Return how far a name is from its mark; on its line counts as nearer."""
    x, y = spot
    aside = max(frame[0] - x, x - frame[2], 0.0)
    below = max(frame[1] - y, y - frame[3], 0.0)
    return hypot(aside, below) + 0.3 * abs((frame[1] + frame[3]) / 2 - y)


def _free(frame: Frame, box: Frame, taken: Sequence[Frame]) -> bool:
    """Whether a frame lies within the box and upon nothing that is taken."""
    left, top, right, bottom = frame
    inside = box[0] <= left and box[1] <= top and right <= box[2] and bottom <= box[3]
    return inside and not any(left < t[2] and t[0] < right and top < t[3] and t[1] < bottom for t in taken)
