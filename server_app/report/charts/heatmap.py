"""Heat maps: counts on a logarithmic scale, cosines and shares, as shades of one colour on the page's background."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from server_app.report.charts.canvas import WIDTH, Canvas, Chart
from server_app.report.charts.places import text_width
from server_app.report.charts.scales import rank_ticks
from server_app.report.charts.series import shorten
from server_app.report.charts.theme import RULE, SERIES, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

Values: TypeAlias = Sequence[Sequence[float | None]]
_LEFT, _RIGHT = 150.0, WIDTH - 84
_KEY = 30.0  # height of the key above the map
_NUMBERED, _NAMED = 14, 25  # so many columns have room for numbers in their cells, and for names
_FULL = 0.55  # the strongest shade under a number: ink reads on it in both schemes, with a contrast of 4.5 at least
_ZERO = 0.4  # the shade, of the other colour, of a share of zero
_MINUS = "−"


@dataclass(frozen=True)
class _Cell:
    """One cell: its shade in [0, 1], the number in it, and whether it is below zero, or a share of zero."""

    shade: float
    words: str
    below: bool = False


@dataclass(frozen=True)
class _Map:
    """What a heat map shows: names, cells (None: blank), its key, and at the right of each row a total."""

    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[_Cell | None]]
    key: Sequence[_Cell]
    key_name: str
    totals: Sequence[str] = ()
    total_name: str = ""

    @property
    def numbered(self) -> bool:
        """Whether there is room for the numbers."""
        return len(self.columns) <= _NUMBERED

    @property
    def wide(self) -> float:
        """Width of a cell [points]."""
        return (_RIGHT - _LEFT) / len(self.columns)

    @property
    def high(self) -> float:
        """Height of a cell [points]."""
        return 18.0 if len(self.rows) > 12 else 24.0

    @property
    def turned(self) -> bool:
        """Whether the names of the columns are, since they are wider than these."""
        return len(self.columns) <= _NAMED and max(map(text_width, self.column_names)) > self.wide - 4

    @property
    def top(self) -> float:
        """Where the cells begin [points]."""
        names = max(map(text_width, self.column_names)) if self.turned else 0.0
        return _KEY + 22 + 0.65 * names

    @property
    def row_names(self) -> list[str]:
        """Names of the rows, with their numbers where these stand for the columns of the same names."""
        names = [shorten(name, 20) for name in self.rows]
        if len(self.columns) <= _NAMED or list(self.columns[: len(names)]) != list(self.rows):
            return names
        return [f"{shorten(name, 17)} {number}" for number, name in enumerate(self.rows, 1)]

    @property
    def column_names(self) -> list[str]:
        """Names of the columns as far as there is room."""
        return [shorten(name, 16) for name in self.columns]


def heatmap(
    name: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[float]],
    label: str,
    sums: str = "images",
) -> Chart | None:
    """Return counts as shades on a logarithmic scale; few columns also show numbers.

    Args:
        name: of the chart's files.
        rows, columns: names.
        cells: counts [rows, columns]; None is returned where all are zero.
        label: what the chart shows, in words.
        sums: what the rows' sums count, at the right; '' for none.
    """
    most = max((n for row in cells for n in row), default=0.0)
    if most <= 0:
        return None
    drawn = [[_Cell(shade_of(n, most), f"{n:,.0f}") if n > 0 else None for n in row] for row in cells]
    totals = [f"{sum(row):,.0f}" for row in cells] if sums else []
    key = [_Cell(shade_of(n, most), f"{n:,.0f}") for n in _decades(most)]
    shown = _Map(rows, columns, drawn, key, f"{sums or 'images'}; none: empty", totals, sums)
    return _chart(name, shown, cells, label, sums or "images")


def cosine_map(name: str, names: Sequence[str], cells: Values, label: str) -> Chart | None:
    """Return cosines as shades of two colours, above and below zero; few names also show numbers.

    Args:
        name: of the chart's files.
        names: of rows and columns.
        cells: cosines [names, names], None where there is none.
        label: what the chart shows, in words.
    """
    drawn = [[None if v is None else _cosine(v) for v in row] for row in cells]
    key = [_cosine(v) for v in (-1.0, -0.5, 0.5, 1.0)]
    return _chart(name, _Map(names, names, drawn, key, "cosine"), cells, label, "cosine")


def share_map(
    name: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Values,
    label: str,
    *,
    what: str = "share",
    zeros: bool = False,
) -> Chart | None:
    """Return shares as shades; few columns also show numbers, in per cent.

    Args:
        name: of the chart's files.
        rows, columns: names.
        cells: shares [rows, columns], 0 to 1, None where there is none.
        label: what the chart shows, in words.
        what: the shares' name, such as 'AUC'.
        zeros: whether a share of zero has a colour of its own; else nothing stands there, as where there is none.
    """
    drawn = [[None if v is None or not (v or zeros) else _share(v) for v in row] for row in cells]
    key = [_share(v) for v in (*([0.0] if zeros else []), 0.25, 0.5, 0.75, 1.0)]
    return _chart(name, _Map(rows, columns, drawn, key, what), cells, label, what)


def numbers_of_columns(count: int) -> str:
    """Return what the numbers above so many columns mean in a map whose rows are the same; '' where they have names."""
    return " The number above a column is its row's." if count > _NAMED else ""


def shade_of(count: float, most: float) -> float:
    """Return a shade in (0, 1] that grows with the logarithm of a positive count."""
    return min(1.0, 0.08 + 0.92 * math.log1p(count) / math.log1p(most))


def _cosine(value: float) -> _Cell:
    value = round(value, 2) + 0.0  # no −0.00
    return _Cell(min(1.0, abs(value)), f"{value:.2f}".replace("-", _MINUS), value < 0)


def _share(value: float) -> _Cell:
    if value == 0:
        return _Cell(_ZERO, "0 %", below=True)
    return _Cell(min(max(value, 0.0), 1.0), f"{value * 100:.0f} %")


def _decades(most: float) -> list[float]:
    """Return the powers of ten up to the largest count, and this."""
    tens = [10.0**k for k in range(math.floor(math.log10(most)) + 1)]
    if len(tens) > 1 and most < 1.5 * tens[-1]:
        tens.pop()
    return [*(ten for ten in tens if ten < most), most]


def _chart(name: str, shown: _Map, cells: Values, label: str, what: str) -> Chart | None:
    if not shown.rows or not shown.columns:
        return None
    table = [
        [row, column, value]
        for row, values in zip(shown.rows, cells, strict=True)
        for column, value in zip(shown.columns, values, strict=True)
    ]
    height = shown.top + shown.high * len(shown.rows) + 6
    return Chart(name, label, ["row", "column", what], table, height, lambda canvas: _draw(canvas, shown))


def _draw(canvas: Canvas, shown: _Map) -> None:
    from matplotlib.patches import Rectangle

    axes = canvas.bare_axes()
    _key(axes, shown)
    _column_names(axes, shown)
    for i, name in enumerate(shown.row_names):
        middle = shown.top + shown.high * (i + 0.5)
        axes.text(_LEFT - 8, middle, name, ha="right", va="center")
        if shown.totals:
            axes.text(WIDTH - 8, middle, shown.totals[i], ha="right", va="center")
    if shown.totals:
        axes.text(WIDTH - 8, shown.top - 6, shown.total_name, ha="right", va="bottom", color=SOFT)
    _cells(canvas, axes, shown)
    size = _RIGHT - _LEFT, shown.high * len(shown.rows)
    axes.add_patch(Rectangle((_LEFT, shown.top), *size, fill=False, edgecolor=RULE, linewidth=1))


def _cells(canvas: Canvas, axes: "Axes", shown: _Map) -> None:
    """Draw the cells, those of one shade together, since a page is the smaller for it."""
    alike: dict[tuple[float, bool], list[tuple[float, float, str]]] = {}
    for i, row in enumerate(shown.cells):
        for j, cell in enumerate(row):
            if cell is None:
                continue
            x, y = _LEFT + shown.wide * j, shown.top + shown.high * i
            tip = f"{shown.rows[i]}, {shown.columns[j]}: {cell.words}"
            alike.setdefault((_shade(cell, shown), cell.below), []).append((x, y, tip))
            if shown.numbered:
                axes.text(x + shown.wide / 2, y + shown.high / 2, cell.words, ha="center", va="center", zorder=3)
    for (shade, below), found in alike.items():
        corners = [(x, y) for x, y, _ in found]
        squares = _squares(axes, corners, (shown.wide, shown.high - 1), shade, below)
        canvas.tell(squares, [tip for *_, tip in found])


def _squares(
    axes: "Axes", corners: Sequence[tuple[float, float]], size: tuple[float, float], shade: float, below: bool
) -> "PathCollection":
    """Draw rectangles of a size [points] at their upper left corners."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    wide, high = size[0] / 72, -size[1] / 72  # inches, upwards
    path = Path([(0, 0), (wide, 0), (wide, high), (0, high), (0, 0)], closed=True)
    colour = SERIES[1] if below else SERIES[0]
    found = PathCollection([path], offsets=corners, offset_transform=axes.transData, facecolors=colour,
                           edgecolors="none", alpha=shade, clip_on=False)  # fmt: skip
    found.set_transform(axes.figure.dpi_scale_trans)
    axes.add_artist(found)
    return found


def _shade(cell: _Cell, shown: _Map) -> float:
    return round(cell.shade * (_FULL if shown.numbered else 1.0), 2)


def _key(axes: "Axes", shown: _Map) -> None:
    x = _LEFT
    axes.text(x, 12, f"{shown.key_name}:", va="center", color=SOFT)
    x += text_width(shown.key_name) + 14
    for cell in shown.key:
        _squares(axes, [(x, 5)], (14, 14), _shade(cell, shown), cell.below)
        axes.text(x + 20, 12, cell.words, va="center")
        x += text_width(cell.words) + 38


def _column_names(axes: "Axes", shown: _Map) -> None:
    base = shown.top - 6
    if len(shown.columns) > _NAMED:
        for rank in rank_ticks(len(shown.columns)):
            axes.text(_LEFT + shown.wide * (rank - 0.5), base, f"{rank}", ha="center", va="bottom")
        return
    for j, name in enumerate(shown.column_names):
        x = _LEFT + shown.wide * (j + 0.5)
        if shown.turned:
            axes.text(x - 6, base, name, ha="left", va="bottom", rotation=40, rotation_mode="anchor")
        else:
            axes.text(x, base, name, ha="center", va="bottom")
