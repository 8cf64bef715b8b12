"""Scales, ticks and marks: the parts that the inline SVG charts are drawn from."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.markup import escape_html as escape

# One shape and one dash a style, so that nothing is told by colour alone; colours are in page.py's CSS. Where colours
# come again, they come with another shape and dash: 24 styles differ.
_SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",  # circle
    "M0-5.5L5.5 0L0 5.5L-5.5 0z",  # diamond
    "M-4-4H4V4H-4z",  # square
    "M0-5L5 4H-5z",  # triangle
    "M0 5L-5-4H5z",  # triangle, point down
    "M-5-1.5H-1.5V-5H1.5V-1.5H5V1.5H1.5V5H-1.5V1.5H-5z",  # plus
)
DASHES = ("none", "8 3", "2 3", "10 3 2 3", "5 5", "14 3 2 3 2 3")
COLOURS = 8


def colour(style: int) -> str:
    """Return the CSS class of a style's colour."""
    return f"s{style % COLOURS}"


def form(style: int) -> int:
    """Return which shape and dash a style has."""
    return (style + 2 * (style // COLOURS)) % len(_SHAPES)


@dataclass(frozen=True)
class Axis:
    """A scale from data to pixels.

    Attributes:
        low, high: ends in data units.
        start, end: the same ends in pixels (start > end for an axis that points up).
        log: whether the scale is logarithmic; low must then be positive.
        percent: whether ticks are shares to be written in per cent.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    percent: bool = False

    def at(self, value: float) -> float:
        """Return the pixel of a value; values outside the ends are put on the end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Return readable values between the ends."""
        return log_ticks(self.low, self.high) if self.log else nice_ticks(self.low, self.high)

    def text(self, value: float) -> str:
        """Return a tick's label."""
        if self.percent:
            return f"{value * 100:g} %"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round values (steps of 1, 2 or 5 times a power of ten) within [low, high]."""
    step = nice_step(low, high, count)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


def nice_step(low: float, high: float, count: int = 5) -> float:
    """Return 1, 2 or 5 times a power of ten that divides [low, high] into about `count` parts."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2, 5 times powers of ten within [low, high]; over three decades, the powers alone."""
    factors = (1, 2, 5) if high / low < 1000 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**k for k in decades for m in factors if low * 0.999 <= m * 10.0**k <= high * 1.001]


def value_axis(
    values: Iterable[float | None], start: float, end: float, *, percent: bool = False, from_zero: bool = True
) -> Axis:
    """Return an axis over zero and the values; logarithmic if they span more than a factor of a hundred.

    Without `from_zero` it is linear and begins below the least value.
    """
    known = [v for v in values if v is not None]
    high = max(known, default=1.0)
    low = min(known, default=0.0)
    if not from_zero and high - low > 1e-9:
        step = nice_step(low, high, 8)
        low, high = (math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step)
        return Axis(low, high, start, end, percent=percent)
    if not percent and low > 0 and high / low > 100:
        return Axis(max(low, high * 1e-9) / 1.2, high * 1.2, start, end, log=True)
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-9:
        high = low + 1.0
    step = nice_step(low, high)
    top = math.ceil(high / step - 1e-9) * step
    return Axis(low, min(top, 1.0) if percent and high <= 1 else top, start, end, percent=percent)


def count_axis(counts: Sequence[float], start: float, end: float, span: float = 10.0) -> Axis:
    """Return a logarithmic axis over image counts, the last `span` times the first or more; 0 is drawn where 0.5 is."""
    low = 0.5 if min(counts, default=0) < 1 else max(1.0, min(counts) / 1.3)
    return Axis(low, max(max(counts, default=1) * 1.3, low * span), start, end, log=True)


def count_ticks(axis: Axis) -> list[tuple[float, str]]:
    """Return a count axis's ticks with labels; the tick for 0 only where the axis reaches it."""
    zero = [(0.5, "0")] if axis.low == 0.5 else []
    ticks = axis.ticks() if axis.high / axis.low > 9 else nice_ticks(axis.low, axis.high)
    return zero + [(tick, axis.text(tick)) for tick in ticks if tick >= 1 and tick == int(tick)]


def mark(style: int, x: float, y: float, title: str = "", css: str = "dot", scale: float = 1.0) -> str:
    """Return a marker of a style's shape and colour, with a tooltip."""
    tip = f"<title>{escape(title)}</title>" if title else ""
    size = "" if scale == 1 else f" scale({scale:g})"
    shape = f'<path d="{_SHAPES[form(style)]}" transform="translate({x:g} {y:g}){size}"'
    return f'{shape} class="{css} {colour(style)}">{tip}</path>'


def text(x: float, y: float, words: str, anchor: str = "middle", css: str = "", turn: int = 0) -> str:
    """Return escaped text in the chart."""
    rotate = f' transform="rotate({turn} {x:g} {y:g})"' if turn else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{css}"{rotate}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str = "grid") -> str:
    """Return a straight line."""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="{css}"/>'


def y_grid(axis: Axis, left: float, right: float, label: str, ticks: Sequence[tuple[float, str]] = ()) -> list[str]:
    """Return horizontal grid lines with tick labels, and the axis's name above them."""
    parts = [text(left - 44, min(axis.start, axis.end) - 10, label, "start", "name")] if label else []
    for value, words in ticks or [(tick, axis.text(tick)) for tick in axis.ticks()]:
        parts.append(line(left, axis.at(value), right, axis.at(value)))
        parts.append(text(left - 6, axis.at(value) + 4, words, "end"))
    return parts


def x_ticks(axis: Axis, bottom: float, label: str, ticks: Sequence[tuple[float, str]] = ()) -> list[str]:
    """Return tick marks and labels below the chart, and the axis's name."""
    parts = [line(axis.start, bottom, axis.end, bottom, "axis")]
    for value, words in ticks or [(tick, axis.text(tick)) for tick in axis.ticks()]:
        parts.append(line(axis.at(value), bottom, axis.at(value), bottom + 4, "axis"))
        parts.append(text(axis.at(value), bottom + 17, words))
    return [*parts, text((axis.start + axis.end) / 2, bottom + 36, label, css="name")]


def svg(parts: Iterable[str], width: float, height: float, label: str) -> str:
    """Return the SVG element around the parts; `label` says in words what it shows."""
    box = f'viewBox="0 0 {width:g} {height:g}" style="min-width:{min(width, 760):g}px;max-width:{width:g}px"'
    return f'<svg role="img" aria-label="{escape(label)}" {box}>{"".join(parts)}</svg>'
