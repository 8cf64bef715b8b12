"""A chart: its data, how it is drawn, and the drawing as SVG for a page or as a file."""

import io
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from common.markup import plain_line
from server_app.report.charts.series import Key
from server_app.report.charts.theme import FALLBACKS, RC, VARIABLES

if TYPE_CHECKING:  # matplotlib takes half a second, for which commands that draw nothing need not wait
    from collections.abc import Iterator

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

WIDTH = 900.0  # points, which are the SVG's units
_LEAST = 760.0  # pixels on a page; a narrower window scrolls
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_HEX = re.compile("|".join(VARIABLES))
_LONG = re.compile(r"-?\d+\.\d{3,}")  # of a coordinate: a hundredth of a point is finer than any screen


@dataclass
class Canvas:
    """What a chart is drawn on: a matplotlib figure, and what its marks say when a reader points at them."""

    height: float
    width: float = WIDTH
    _groups: list[tuple[str, Sequence[str]]] = field(default_factory=list)
    _hidden: list["Artist"] = field(default_factory=list)

    def __post_init__(self) -> None:
        from matplotlib.figure import Figure

        self.figure = Figure((self.width / 72, self.height / 72), dpi=72, layout="constrained")

    def axes(self, **options: Any) -> "Axes":
        """Return axes that fill the canvas; options as of matplotlib's `add_subplot`."""
        return self.figure.add_subplot(**options)

    def axes_within(self, left: float, top: float, right: float, bottom: float) -> "Axes":
        """Return axes between these lines [points from the top left]; names and ticks are outside."""
        self.figure.set_layout_engine("none")
        width, height = self.width, self.height
        return self.figure.add_axes(
            (left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height)
        )

    def bare_axes(self) -> "Axes":
        """Return bare axes over the whole canvas, in points from its upper left corner."""
        self.figure.set_layout_engine("none")
        axes = self.figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        return axes

    def spots(self, axes: "Axes", values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Return where values lie [points from the top left] in axes that stand and have their limits."""
        return [(float(x), self.height - float(y)) for x, y in axes.transData.transform(values)]

    def tell(self, artist: "Artist", tips: Sequence[str], series: str = "", *, when_pointed: bool = False) -> None:
        """Give an artist's marks their tooltips, in the order in which they were given to matplotlib.

        Args:
            artist: a line, a collection or a patch.
            tips: one a mark; or one for all of it.
            series: artists of one series stand out together.
            when_pointed: whether it is there only while a reader points at its series; files do without it.
        """
        artist.set_gid(f"tell-{len(self._groups)}")
        self._groups.append((series, [plain_line(tip) for tip in tips]))
        if when_pointed:
            self._hidden.append(artist)


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        name: of its files, e.g. 'accuracy-by-round'; each once a page.
        label: what it shows, in words, for those who cannot see it.
        columns, rows: its data, as its CSV has them.
        height: in points.
        draw: draws it.
        key: its names once more, for a narrow window that does not show those in the drawing.
    """

    name: str
    label: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]
    height: float
    draw: Callable[[Canvas], None]
    key: Sequence[Key] = ()

    def svg(self) -> str:
        """Return the drawing as an SVG element for a page, whose colours are the page's."""
        with _settings(self.name), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # the reader's fonts have them
            canvas = self._drawn()
            text = _saved(canvas, "svg").decode()
        return _inline(text, canvas, self.label)

    def file(self, kind: str) -> bytes:
        """Return the drawing as a file: 'svg', 'pdf' or 'png' (at 200 dots an inch)."""
        with _settings(self.name, FALLBACKS):
            canvas = self._drawn()
            for artist in canvas._hidden:
                artist.set_visible(False)
            return _saved(canvas, kind)

    def _drawn(self) -> Canvas:
        from matplotlib.text import Text

        canvas = Canvas(self.height)
        self.draw(canvas)
        for words in canvas.figure.findobj(Text):
            words.set_text(plain_line(words.get_text()))
        return canvas


@contextmanager
def _settings(name: str, fallbacks: Sequence[str] = ()) -> "Iterator[None]":
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it keeps its list of fonts is of no interest
    import matplotlib as mpl
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    fonts = [*RC["font.family"], *(font for font in fallbacks if font in installed)]
    with mpl.rc_context():
        mpl.rcdefaults()  # not what a user has set for other charts
        mpl.rcParams.update({**RC, "font.family": fonts, "svg.hashsalt": name})
        yield


def _saved(canvas: Canvas, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "svg":
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        FigureCanvasSVG(canvas.figure).print_svg(buffer, metadata={"Date": None})  # `savefig` would draw twice
        return buffer.getvalue()
    undated = {"CreationDate": None} if kind == "pdf" else None
    canvas.figure.savefig(buffer, format=kind, dpi=200 if kind == "png" else 72, metadata=undated)
    return buffer.getvalue()


def _inline(text: str, canvas: Canvas, label: str) -> str:
    """Return matplotlib's SVG as an element of the page: the page's colours and font, tooltips, nothing else."""
    ET.register_namespace("", _SVG)
    root = ET.fromstring(text)
    for part in root.findall(f"{{{_SVG}}}metadata") + root.findall(f"{{{_SVG}}}defs"):
        if part.find(f"{{{_SVG}}}clipPath") is None:
            root.remove(part)  # who made it, and a style for the whole page
    root.attrib = {
        "role": "img",
        "aria-label": plain_line(label),
        "viewBox": f"0 0 {canvas.width:g} {canvas.height:g}",
        "style": f"min-width:{min(canvas.width, _LEAST):g}px;max-width:{canvas.width:g}px",
    }
    _add_tips(root, canvas)
    for element in root.iter():
        if element.tag == f"{{{_SVG}}}g":
            element.attrib.pop("id", None)
            _share_style(element)
        if reference := element.attrib.pop(f"{{{_XLINK}}}href", None):
            element.set("href", reference)
        for key in element.attrib.keys() & {"d", "x", "y", "transform"}:
            element.set(key, _LONG.sub(lambda found: f"{float(found[0]):.2f}", element.attrib[key]))
        for key in ("style", "fill", "stroke"):
            if key in element.attrib and element is not root:
                element.set(key, _HEX.sub(lambda found: VARIABLES[found[0]], element.attrib[key]))
    return ET.tostring(root, encoding="unicode")


def _share_style(group: ET.Element) -> None:
    """Let a group have the style that all its marks have, so that it stands once."""
    marks = group.findall(f"{{{_SVG}}}use")
    styles = {mark.get("style", "") for mark in marks}
    if len(marks) > 1 and len(styles) == 1:
        group.set("style", styles.pop())
        for mark in marks:
            mark.attrib.pop("style", None)


def _add_tips(root: ET.Element, canvas: Canvas) -> None:
    """Put the tooltips into the marks; what belongs to a series becomes one group."""
    parents = {child: parent for parent in root.iter() for child in parent}
    groups = {element.get("id"): element for element in root.iter(f"{{{_SVG}}}g")}
    together: dict[str, ET.Element] = {}
    for i, (series, tips) in enumerate(canvas._groups):
        if (group := groups.get(f"tell-{i}")) is None:  # nothing of it is within the axes
            continue
        marks = list(group.iter(f"{{{_SVG}}}use")) or list(group.iter(f"{{{_SVG}}}path"))
        for mark, tip in zip(marks if len(tips) > 1 else [group], tips, strict=False):
            title = ET.Element(f"{{{_SVG}}}title")
            title.text = tip
            mark.insert(0, title)
        if series:
            parent = parents[group]
            if series not in together:
                together[series] = ET.Element(f"{{{_SVG}}}g", {"class": "series"})
                parent.insert(list(parent).index(group), together[series])  # what is drawn later stays above
            parent.remove(group)
            together[series].append(group)
    for artist in canvas._hidden:
        if (group := groups.get(artist.get_gid())) is not None:
            group.set("class", "pointed")
