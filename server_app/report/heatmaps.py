"""Heat maps as inline SVG: counts on a logarithmic scale, and cosines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from common.markup import escape_html as escape
from server_app.report.axes import svg, text
from server_app.report.charts import WIDTH, rank_ticks, shorten, text_width

_LEFT = 150.0
_OPPOSITE = ' style="fill:var(--s1)"'  # of what is below zero


@dataclass(frozen=True)
class _Cell:
    """One cell: its shade in (0, 1], the number in it, its tooltip, and whether it is below zero."""

    shade: float
    words: str
    title: str
    below: bool = False


def heatmap(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[float]],
    label: str,
    sums: str = "images",
) -> str:
    """Return counts [rows, columns] as shades (log scale); few columns also show numbers.

    Args:
        rows, columns: names.
        cells: counts of images.
        label: what the chart shows, in words.
        sums: what the rows' sums count, at the right; '' for none.
    """
    most = max((n for row in cells for n in row), default=0.0)
    if most <= 0:
        return ""
    drawn = [
        [_Cell(shade_of(n, most), f"{n:.0f}", f"{name}, {column}: {n:,.0f}") if n > 0 else None for column, n in pairs]
        for name, pairs in ((name, zip(columns, row, strict=True)) for name, row in zip(rows, cells, strict=True))
    ]
    totals = [f"{sum(row):,.0f}" for row in cells] if sums else []
    return _shade_key(most) + _grid(rows, columns, drawn, label, totals, sums)


def cosine_map(names: Sequence[str], cells: Sequence[Sequence[float | None]], label: str) -> str:
    """Return cosines [names, names] as shades of two colours, above and below zero; few names also show numbers.

    Args:
        names: of rows and columns.
        cells: cosines; None where there is none.
        label: what the chart shows, in words.
    """
    drawn = []
    for name, row in zip(names, cells, strict=True):
        values = [(other, None if v is None else round(v, 2)) for other, v in zip(names, row, strict=True)]
        drawn.append([_cosine(f"{name}, {other}", value) for other, value in values])
    samples = [_cosine("", value) for value in (-1.0, -0.5, 0.5, 1.0)]
    key = "".join(_sample(cell) for cell in samples if cell)
    return f'<ul class="legend"><li>cosine:</li>{key}</ul>' + _grid(names, names, drawn, label, [], "")


def _cosine(title: str, value: float | None) -> _Cell | None:
    if value is None:
        return None
    words = f"{value + 0.0:.2f}".replace("-", "−")
    return _Cell(min(1.0, abs(value)), words, f"{title}: {words}", value < 0)


def _grid(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[_Cell | None]],
    label: str,
    totals: Sequence[str],
    total_name: str,
) -> str:
    """Return the cells with the names of rows and columns, and totals at the right where there are any."""
    numbered, named = len(columns) <= 14, len(columns) <= 25
    left, right = _LEFT, WIDTH - 84
    turn = named and max(map(text_width, columns)) > (right - left) / len(columns)
    top = 26.0 + (0.64 * max(text_width(shorten(c, 16)) for c in columns) if turn else 0.0)
    wide, high = (right - left) / len(columns), (18.0 if len(rows) > 12 else 24.0)
    parts = [text(WIDTH - 8, top - 8, total_name, "end", "name")] if totals else []
    parts += _column_names(columns, left, wide, top, named, turn)
    for i, (name, row) in enumerate(zip(rows, cells, strict=True)):
        y = top + i * high
        parts.append(text(left - 8, y + high / 2 + 4, shorten(name, 20), "end"))
        parts += [text(WIDTH - 8, y + high / 2 + 4, totals[i], "end")] if totals else []
        for j, cell in enumerate(row):
            if cell is None:
                continue
            box = f'x="{left + j * wide:.1f}" y="{y:g}" width="{wide:.2f}" height="{high - 1:g}"'
            parts.append(f"<rect {box} {_fill(cell)}><title>{escape(cell.title)}</title></rect>")
            if numbered:
                css = "strong" if cell.shade > 0.85 else "middling" if cell.shade > 0.6 else ""
                parts.append(text(left + (j + 0.5) * wide, y + high / 2 + 4, cell.words, css=css))
    bottom = top + high * len(rows)
    parts.append(f'<rect x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" class="box"/>')
    return svg(parts, WIDTH, bottom + 6, label)


def _fill(cell: _Cell) -> str:
    return f'class="cell" fill-opacity="{cell.shade:.2f}"' + (_OPPOSITE if cell.below else "")


def _column_names(columns: Sequence[str], left: float, wide: float, top: float, named: bool, turn: bool) -> list[str]:
    if named:
        anchor = "start" if turn else "middle"
        return [
            text(left + (j + (0.35 if turn else 0.5)) * wide, top - 6, shorten(c, 16), anchor, turn=-40 * turn)
            for j, c in enumerate(columns)
        ]
    ranks = rank_ticks(len(columns))
    return [text(left + (rank - 0.5) * wide, top - 6, f"{rank}") for rank in ranks]


def _shade_key(most: float) -> str:
    tens = [10.0**k for k in range(math.floor(math.log10(most)) + 1)]
    if len(tens) > 1 and most < 1.5 * tens[-1]:
        tens.pop()
    items = "".join(_sample(_Cell(shade_of(n, most), f"{n:,.0f}", "")) for n in [*tens, most])
    return f'<ul class="legend"><li>images:</li><li>none: empty</li>{items}</ul>'


def _sample(cell: _Cell) -> str:
    """Return a cell's shade and number for a key."""
    return (
        f'<li><svg viewBox="0 0 14 14" aria-hidden="true"><rect width="14" height="14" {_fill(cell)}/></svg>'
        f"{escape(cell.words)}</li>"
    )


def shade_of(count: float, most: float) -> float:
    """Return a shade in (0, 1] that grows with the logarithm of a positive count."""
    return min(1.0, 0.08 + 0.92 * math.log1p(count) / math.log1p(most))
