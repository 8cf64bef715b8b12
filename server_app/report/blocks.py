"""What a page is made of. Sections give blocks of plain text and charts; `template.py` alone knows HTML."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from server_app.report.charts import Chart


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    kind: ClassVar[str] = "paragraph"
    words: str


@dataclass(frozen=True)
class Note:
    """A remark that stands out."""

    kind: ClassVar[str] = "note"
    words: str


@dataclass(frozen=True)
class Heading:
    """The heading of a part of a section."""

    kind: ClassVar[str] = "heading"
    words: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what it shows.
        header: names of its columns.
        rows: cells as text; the first of each names the row.
        columns: what those after the first hold: 'num' (right-aligned), 'code' or ''; none: all are numbers.
        dense: whether it is set small, for many columns.
    """

    kind: ClassVar[str] = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    columns: Sequence[str] = ()
    dense: bool = False

    @property
    def classes(self) -> list[str]:
        """The CSS class of each column."""
        return ["", *(self.columns or ["num"] * (len(self.header) - 1))]


@dataclass(frozen=True)
class Tile:
    """A large number, what it is of, and one more line."""

    number: str
    name: str
    more: str


@dataclass(frozen=True)
class Tiles:
    """Large numbers side by side."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Figure:
    """A chart and its caption."""

    kind: ClassVar[str] = "figure"
    chart: Chart
    caption: str


@dataclass(frozen=True)
class Picture:
    """A PNG.

    Attributes:
        data: the PNG in base64.
        label: what it shows, for those who cannot see it.
        crisp: whether it is so small that its pixels are to be seen.
    """

    data: str
    label: str
    crisp: bool = False


@dataclass(frozen=True)
class PictureGroup:
    """Pictures side by side that belong together, under a title with a remark at its right, and words below."""

    title: str
    aside: str
    pictures: Sequence[Picture]
    words: str


@dataclass(frozen=True)
class Pictures:
    """Groups of pictures, and a caption."""

    kind: ClassVar[str] = "pictures"
    groups: Sequence[PictureGroup]
    caption: str


@dataclass(frozen=True)
class Terms:
    """Words with their meaning."""

    kind: ClassVar[str] = "terms"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Details:
    """Blocks behind a fold, which open on demand."""

    kind: ClassVar[str] = "details"
    summary: str
    body: "Sequence[Block]"


Block: TypeAlias = Paragraph | Note | Heading | Table | Tiles | Figure | Pictures | Terms | Details


def figure(chart: Chart | None, caption: str) -> list[Block]:
    """Return a chart with its caption; nothing if there is no chart."""
    return [] if chart is None else [Figure(chart, caption)]


def charts_of(blocks: Sequence[Block]) -> Iterator[Chart]:
    """Yield the charts of blocks, those behind a fold too, in the order of the page."""
    for block in blocks:
        if isinstance(block, Figure):
            yield block.chart
        elif isinstance(block, Details):
            yield from charts_of(block.body)
