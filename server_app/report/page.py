"""A page of blocks as one HTML file, and words for its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from common.markup import plain_line
from server_app.report.blocks import Block, charts_of
from server_app.report.charts import Chart
from server_app.report.charts.theme import COLOURS, SHAPES, VARIABLES
from server_app.report.record import number
from server_app.report.template import BLOCKS, PAGE, STYLE

if TYPE_CHECKING:
    from jinja2 import Environment

DASH = "–"


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title, lead: plain text.
        sections: (heading, blocks) in the order of the page; one without blocks is left out.
        notice: stands above all of them; '' for none.
    """

    title: str
    lead: str
    sections: Sequence[tuple[str, Sequence[Block]]]
    notice: str = ""

    def html(self) -> str:
        """Return the HTML document, which holds all that it shows and asks for nothing."""
        shown = [(name, body) for name, body in self.sections if body]
        template = _environment().get_template("page")
        return template.render(title=self.title, lead=self.lead, sections=shown, notice=self.notice)

    def charts(self) -> list[Chart]:
        """Return its charts, in their order."""
        return [chart for _, body in self.sections for chart in charts_of(body)]


def percent(value: object) -> str:
    """Return a share as per cent with one decimal, or a dash if unknown."""
    share = number(value)
    return DASH if share is None else f"{share * 100:.1f} %"


def plain(value: object, form: str = ",.6g") -> str:
    """Return a number in a format, or a dash if unknown."""
    known = number(value)
    return DASH if known is None else format(known, form)


@cache
def _environment() -> "Environment":
    """Return the templates; whatever they are given is text and is escaped, but for charts."""
    from jinja2 import DictLoader, Environment, StrictUndefined

    made = Environment(
        loader=DictLoader({"page": PAGE, "blocks": BLOCKS, "style": STYLE}), autoescape=True, undefined=StrictUndefined
    )
    made.globals |= {"colours": COLOURS, "variables": VARIABLES, "shapes": SHAPES}
    made.filters["line"] = plain_line
    made.filters["svg"] = _svg
    return made


def _svg(chart: Chart) -> str:
    from markupsafe import Markup

    return Markup(chart.svg())
