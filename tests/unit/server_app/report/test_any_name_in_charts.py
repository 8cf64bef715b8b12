"""Whatever is named in a chart: it is well formed, every mark says what it is, and no id stands twice on a page."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_up_run import Page
from matplotlib.text import Text

from server_app.report.blocks import figure
from server_app.report.charts import (
    Bar,
    Canvas,
    Chart,
    Classes,
    Level,
    Series,
    bar_chart,
    by_class_chart,
    cloud_chart,
    cosine_map,
    heatmap,
    line_chart,
    scatter_chart,
    share_map,
)
from server_app.report.charts.canvas import _settings
from server_app.report.charts.dots import dot_chart
from server_app.report.charts.plane import Point, plane_chart
from server_app.report.page import Page as ReportPage

SVG = "{http://www.w3.org/2000/svg}"
ODD = (
    "", " ", "$x_1$", "\\frac{a}", "$", "<script>alert(1)</script>", "]]>", "&lt;&", "\"'>", "a\nb\tc", "\x00\x1b[31m",
    "\ud800", "\ufffe", "x" * 300, "𝒳" * 300, "\u202eabc", "שלום", "胸部X線", "e\u0301\u0301", "--x", "{{ x }}", "%s",
)  # fmt: skip
NAMES = st.lists(st.sampled_from(ODD) | st.text(max_size=12), min_size=3, max_size=3)


def curves(names: Sequence[str]) -> list[Series]:
    return [
        Series(name, [(1.0, 0.2 + i / 9), (2.0, 0.5), (3.0, 0.6)], i, final=True, band=[(0.1, 0.9), None, (0.5, 0.7)])
        for i, name in enumerate(names)
    ]


def rows(names: Sequence[str]) -> list[Series]:
    return [Series(name, [(float(x), 0.1 * (x + i)) for x in range(len(names))], i) for i, name in enumerate(names)]


CHARTS: dict[str, Callable[[str, Sequence[str]], Chart | None]] = {
    "lines": lambda name, n: line_chart(name, curves(n), n[0], n[1], n[2], level=Level(n[0], 0.3)),
    "scatter": lambda name, n: scatter_chart(name, rows(n), n, n[0], n[1]),
    "bars": lambda name, n: bar_chart(name, [Bar(x, 0.5, x[:20], 0.4, 0.3) for x in n], n[0], n[1][:20], n[2][:20]),
    "classes": lambda name, n: by_class_chart(name, Classes(n, [9, 5, 1], ["many", "medium", "few"]), rows(n), "y", ""),
    "counts": lambda name, n: heatmap(name, n, n, [[i * j for i in range(3)] for j in range(3)], n[0], n[1]),
    "cosines": lambda name, n: cosine_map(name, n, [[1, -0.5, None], [-0.5, 1, 0], [None, 0, 1]], n[0]),
    "shares": lambda name, n: share_map(name, n, n, [[1, 0.5, None]] * 3, n[0]),
    "cloud": lambda name, n: cloud_chart(name, curves(n), n[0]),
    "dots": lambda name, n: dot_chart(name, n, rows(n), n[0]),
    "plane": lambda name, n: plane_chart(
        name, [Point(x, i / 3 if i else None, 0.5, 0.1, 0.1, i) for i, x in enumerate(n)], n[0], n[1], n[2], no_x=n[0]
    ),
}
TAGS = {f"{SVG}{tag}" for tag in ("svg", "g", "path", "use", "defs", "clipPath", "rect", "text", "title")}


@pytest.mark.parametrize("kind", CHARTS)
@given(names=NAMES)
@example(names=["", "\ud800$<&", "x" * 300])
@settings(max_examples=settings.default.max_examples // 20)  # each draws several times
def test_a_chart_is_well_formed_and_asks_for_nothing(kind: str, names: list[str]) -> None:
    charts = [CHARTS[kind](name, names) for name in ("a", "b")]
    sections = [("Section", [block for chart in charts for block in figure(chart, names[0])])]
    html = ReportPage("title", "lead", sections).html()
    html.encode()  # no surrogates
    shown = Page(html)
    assert {tag for tag, _ in shown.tags} <= {tag.removeprefix(SVG).lower() for tag in TAGS} | {
        "html", "head", "meta", "link", "title", "style", "body", "header", "h1", "p", "nav", "ol", "li", "a", "main",
        "section", "h2", "div", "figure", "figcaption", "ul",
    }  # fmt: skip
    ids = [attrs["id"] for _, attrs in shown.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    references = [str(attrs["href"])[1:] for _, attrs in shown.tags if str(attrs.get("href")).startswith("#")]
    assert {*references, *re.findall(r"url\(#(\w+)\)", html)} <= set(ids)
    for chart in charts:
        assert chart is not None
        text = chart.svg()
        assert {element.tag for element in ET.fromstring(text).iter()} <= TAGS
        assert text in html  # drawn again, it is the same


@pytest.mark.parametrize("kind", CHARTS)
@given(names=NAMES)
@settings(max_examples=settings.default.max_examples // 20)
def test_every_mark_says_what_it_is(kind: str, names: list[str]) -> None:
    chart, told = CHARTS[kind]("a", names), list[str]()
    assert chart is not None

    class Listening(Canvas):
        def tell(self, artist: Any, tips: Sequence[str], *args: Any, **options: Any) -> None:
            super().tell(artist, tips, *args, **options)
            if not (isinstance(artist, Text) and not artist.get_text()):  # what is empty is not drawn
                told.extend(self._groups[-1][1])

    titles = [title.text or "" for title in ET.fromstring(chart.svg()).iter(f"{SVG}title")]
    with _settings("a"):
        chart.draw(Listening(chart.height))
    assert sorted(titles) == sorted(told)
    assert len(titles) >= 3


def test_a_name_that_begins_with_an_underline_is_in_the_legend() -> None:
    chart = dot_chart("a", ["x", "y", "z"], rows(["_a", "_b", "c"]), "label")
    assert chart is not None
    assert {"_a", "_b", "c"} <= {text.text for text in ET.fromstring(chart.svg()).iter(f"{SVG}text")}


def test_no_two_names_of_charts_give_one_id() -> None:
    found = [set(re.findall(r'id="(\w+)"', CHARTS["cloud"](name, ["a", "b", "c"]).svg())) for name in "abc"]  # type: ignore[union-attr]
    assert all(one and not one & other for one, other in pairwise(found))
