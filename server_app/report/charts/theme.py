"""Colours, markers and dashes, and matplotlib's settings: one look for all charts, light and dark."""

from typing import Any

# name: (on a light page, on a dark page); s0 … s7 are Okabe and Ito's colour-blind-safe palette, lightened for dark.
# The files for papers have the light ones. Each light colour stands once: the page exchanges it for the name.
COLOURS = {
    "bg": ("#ffffff", "#14181f"),
    "fg": ("#1c2330", "#e6eaf0"),
    "soft": ("#5a6475", "#a3adbb"),
    "rule": ("#d8dde5", "#353d4a"),
    "panel": ("#f5f7fa", "#1d232d"),
    "s0": ("#0072b2", "#56b4e9"),
    "s1": ("#d55e00", "#f28c48"),
    "s2": ("#00805f", "#2bc79b"),
    "s3": ("#a0528a", "#dd9bc5"),
    "s4": ("#b07a00", "#f0b93a"),
    "s5": ("#2b8cbe", "#9fd3f5"),
    "s6": ("#333b49", "#cfd6e0"),
    "s7": ("#8a5a2b", "#c99a6b"),
}
VARIABLES = {light: f"var(--{name})" for name, (light, _) in COLOURS.items()}  # a colour in a page's style
BACKGROUND, INK, SOFT, RULE = (COLOURS[name][0] for name in ("bg", "fg", "soft", "rule"))
SERIES = tuple(light for name, (light, _) in COLOURS.items() if name[0] == "s" and name[1:].isdigit())

# One shape and one dash a style, so that nothing is told by colour alone. Where colours come again, they come with
# another shape and dash: 24 styles differ.
_MARKERS = ("o", "D", "s", "^", "v", "P")
# the same as paths around 0, 0, six units wide and high, for a page's own text
SHAPES = {
    "o": "M-3,0A3,3 0 1 1 3,0A3,3 0 1 1 -3,0",
    "D": "M-3,0L0,-3L3,0L0,3Z",
    "s": "M-3,-3H3V3H-3Z",
    "^": "M-3,3L0,-3L3,3Z",
    "v": "M-3,-3H3L0,3Z",
    "P": "M-1,-3H1V-1H3V1H1V3H-1V1H-3V-1H-1Z",
    "_": "M-3,-.5H3V.5H-3Z",
}
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 2)), (0, (6, 2, 1.5, 2)), (0, (3, 3)), (0, (9, 2, 2, 2, 2, 2)))

# Which of a machine's fonts draw the letters that DejaVu Sans lacks, in files; a page has its reader's.
FALLBACKS = (
    *(
        "Noto Sans CJK SC",
        "Noto Sans CJK JP",
        "Noto Sans",
        "Noto Sans Arabic",
        "Noto Sans Devanagari",
        "Noto Sans Thai",
    ),
    *("Droid Sans Fallback", "WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Segoe UI", "Nirmala UI", "Arial Unicode MS"),
)

RC: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that files are equal everywhere
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.labelweight": "normal",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 1.0,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $a$
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.markersize": 5.5,
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's own font
    "pdf.fonttype": 42,  # text that a drawing program can edit
    "path.simplify": False,
}


def colour(style: int) -> str:
    """Return a style's colour."""
    return SERIES[style % len(SERIES)]


def marker(style: int) -> str:
    """Return a style's marker."""
    return _MARKERS[_form(style)]


def area(diameter: float, style: int) -> float:
    """Return matplotlib's size of a style's mark that is about so many points wide; its diamonds are larger."""
    return float((diameter * (0.75 if marker(style) == "D" else 1.0)) ** 2)


def dash(style: int) -> Any:
    """Return a style's line."""
    return _DASHES[_form(style)]


def _form(style: int) -> int:
    return (style + 2 * (style // len(SERIES))) % len(_MARKERS)
