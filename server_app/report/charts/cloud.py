"""Clouds of marks without axes, such as features in a plane, each named at its median."""

from collections.abc import Sequence
from math import hypot
from typing import TYPE_CHECKING

from server_app.report.charts.canvas import WIDTH, Canvas, Chart
from server_app.report.charts.places import Frame, name_frame, place_names, text_width
from server_app.report.charts.series import Series, shorten
from server_app.report.charts.theme import BACKGROUND, SOFT, area, colour, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT, _ROOM = 520.0, 20.0  # of the clouds, and around them
_COLUMNS, _LINE = 4, 20.0  # of the key, and the height of its lines
_FAR = 13.0  # so far from its median a name has a line to it


def cloud_chart(name: str, series: Sequence[Series], label: str) -> Chart | None:
    """Return clouds under a key; a unit is as long across as down.

    Args:
        name: of the chart's files.
        series: the clouds; None is returned where none has a point.
        label: what the chart shows, in words.
    """
    shown = [s for s in series if s.known]
    if not shown:
        return None
    top = 8 + _LINE * -(-len(shown) // _COLUMNS)

    def draw(canvas: Canvas) -> None:
        axes = canvas.bare_axes()
        clouds = _clouds(shown, top)
        for i, (one, cloud) in enumerate(zip(shown, clouds, strict=True)):
            _key(canvas, axes, one, i)
            _marks(canvas, axes, one, cloud, f"{i}")
        _names(axes, shown, clouds, (0.0, top, WIDTH, top + _HEIGHT))

    rows: list[list[str | float | None]] = [[s.name, x, y] for s in shown for x, y in s.known]
    return Chart(name, label, ["series", "x", "y"], rows, top + _HEIGHT, draw)


def _clouds(series: Sequence[Series], top: float) -> list[list[tuple[float, float]]]:
    """Return where the marks of each series are, in points."""
    xs, ys = ([point[i] for s in series for point in s.known] for i in (0, 1))
    across, down = max(max(xs) - min(xs), 1e-9), max(max(ys) - min(ys), 1e-9)
    unit = min((WIDTH - 2 * _ROOM) / across, (_HEIGHT - 2 * _ROOM) / down)
    x0, y0 = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    return [[(WIDTH / 2 + (x - x0) * unit, top + _HEIGHT / 2 - (y - y0) * unit) for x, y in s.known] for s in series]


def _marks(
    canvas: Canvas, axes: "Axes", series: Series, spots: Sequence[tuple[float, float]], group: str, wide: float = 5.5
) -> None:
    style = series.style
    marks = axes.scatter(*zip(*spots, strict=True), s=area(wide, style), marker=marker(style), color=colour(style),
                         edgecolors=BACKGROUND, linewidths=0.7, clip_on=False)  # fmt: skip
    canvas.tell(marks, [series.name], group)


def _key(canvas: Canvas, axes: "Axes", series: Series, place: int) -> None:
    x = 8 + WIDTH / _COLUMNS * (place % _COLUMNS)
    y = 10 + _LINE * (place // _COLUMNS)
    _marks(canvas, axes, series, [(x, y)], f"{place}", 7)
    words = axes.text(x + 10, y, shorten(series.name, 28), va="center")
    canvas.tell(words, [series.name], f"{place}")


def _names(axes: "Axes", series: Sequence[Series], clouds: Sequence[Sequence[tuple[float, float]]], box: Frame) -> None:
    """Write each cloud's name near its median, none upon another, with a line to it where it is far."""
    names = [shorten(s.name, 20) for s in series]
    spots = [_median(cloud) for cloud in clouds]
    widths = [1.1 * text_width(name) for name in names]  # they are bold
    for name, (x, y), width, place in zip(names, spots, widths, place_names(spots, widths, box), strict=True):
        left, top, right, bottom = name_frame(place, width)
        near = min(max(x, left), right), min(max(y, top), bottom)
        if hypot(near[0] - x, near[1] - y) > _FAR:
            axes.plot((x, near[0]), (y, near[1]), color=SOFT, linewidth=0.8)
        axes.text(
            (left + right) / 2, place[1], name, ha="center", weight="bold", zorder=5,
            bbox={"facecolor": BACKGROUND, "edgecolor": "none", "alpha": 0.6, "pad": 0},
        )  # fmt: skip


def _median(cloud: Sequence[tuple[float, float]]) -> tuple[float, float]:
    x, y = (sorted(values)[len(cloud) // 2] for values in zip(*cloud, strict=True))
    return x, y
