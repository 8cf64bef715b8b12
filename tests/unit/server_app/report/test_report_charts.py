"""The charts' axes, ticks, marks and labels, and the report's units."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from server_app.report.charts import (
    Bar,
    Chart,
    Classes,
    Level,
    Series,
    bar_chart,
    by_class_chart,
    line_chart,
    scatter_chart,
    share_map,
)
from server_app.report.charts.scales import count_limits, count_scale, count_ticks, hold_values, rank_ticks
from server_app.report.charts.series import spread_labels
from server_app.report.charts.theme import colour, dash, marker
from server_app.report.geometry import ideal_angle
from server_app.report.setup import duration, size
from server_app.report.site_maps import evenly

SVG = "{http://www.w3.org/2000/svg}"
EVIL = ("$a_b$", "<b>&", "a\x00\x1b[31m\nb", "\ud800", "x" * 200, "\u202eright to left \u05d0\u05d1", "")


class Drawing:
    """A chart's SVG: its words, its tooltips, and the marks that carry these with their places."""

    def __init__(self, chart: Chart | None) -> None:
        assert chart is not None
        self.text = chart.svg()
        self.root = ET.fromstring(self.text)
        self.words = [element.text or "" for element in self.root.iter(f"{SVG}text")]
        self.tips = [element.text or "" for element in self.root.iter(f"{SVG}title")]

    def mark(self, tip: str) -> ET.Element:
        """Return the one element that says this."""
        parents = {child: parent for parent in self.root.iter() for child in parent}
        (title,) = (element for element in self.root.iter(f"{SVG}title") if element.text == tip)
        return parents[title]

    def place(self, tip: str) -> tuple[float, float]:
        """Return where the middle of the one mark is that says this."""
        left, top, right, bottom = self._frame(tip)
        return (left + right) / 2, (top + bottom) / 2

    def width(self, tip: str) -> float:
        """Return how wide the mark is that says this."""
        left, _, right, _ = self._frame(tip)
        return right - left

    def _frame(self, tip: str) -> tuple[float, float, float, float]:
        x = y = 0.0
        mark = self.mark(tip)
        (shape,) = list(mark.iter(f"{SVG}use")) or mark.iter(f"{SVG}path")
        if reference := shape.get("href"):
            x, y = float(shape.get("x", "nan")), float(shape.get("y", "nan"))
            (shape,) = (each for each in self.root.iter(f"{SVG}path") if each.get("id") == reference[1:])
        numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", shape.get("d", ""))]
        xs, ys = numbers[::2], numbers[1::2]
        return x + min(xs), y + min(ys), x + max(xs), y + max(ys)


def line(*values: float | None, name: str = "a", style: int = 0, final: bool = False) -> Series:
    return Series(name, [(float(x), y) for x, y in enumerate(values)], style, final)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=9), st.booleans())
@settings(max_examples=25)
def test_an_axis_holds_its_values(values: list[float], from_zero: bool) -> None:
    axes = Figure().add_subplot()
    hold_values(axes, values, from_zero=from_zero)
    low, high = axes.get_ylim()
    assert low < high
    assert low - 1e-6 * (high - low) <= min(values) and max(values) <= high + 1e-6 * (high - low)
    assert not from_zero or low <= 0 <= high or (low > 0 and max(values) > 100 * min(values))


@pytest.mark.parametrize(
    ("values", "starts", "lines"), [((0.5, 0.9), 0.5, 0), ((0.7, 0.9), 0.5, 0), ((0.45, 0.9), 0.4275, 1)]
)
def test_an_axis_of_auc_begins_at_guessing_unless_a_value_is_below(
    values: tuple[float, ...], starts: float, lines: int
) -> None:
    axes = Figure().add_subplot()
    hold_values(axes, values, percent=True, from_zero=False, guess=0.5)
    assert axes.get_ylim()[0] == pytest.approx(starts)
    assert [tuple(each.get_ydata()) for each in axes.lines] == [(0.5, 0.5)] * lines


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_a_count_axis_holds_its_counts_and_draws_zero(counts: list[int]) -> None:
    low, high = count_limits(counts)
    assert low <= max(min(counts), 0.5) and max(counts) <= high
    ticks = count_ticks(low, high)
    assert ((0.5, "0") in ticks) == (0 in counts)
    assert all(low <= value <= high for value, _ in ticks)
    assert [value for value, _ in ticks] == sorted({value for value, _ in ticks})
    assert len(ticks) >= 2


def test_count_ticks_are_round() -> None:
    assert [words for _, words in count_ticks(4, 600)] == ["5", "10", "20", "50", "100", "200", "500"]
    assert [words for _, words in count_ticks(4, 600, sparse=True)] == ["10", "100"]
    assert [words for _, words in count_ticks(0.5, 2e5)] == ["0", "1", "10", "100", "1,000", "10,000", "100,000"]


def test_a_count_axis_is_logarithmic() -> None:
    axes = Figure().add_subplot()
    count_scale(axes.xaxis, 1, 100)
    left, middle, right = (
        axes.transAxes.inverted().transform(axes.transData.transform((x, 0)))[0] for x in (1, 10, 100)
    )
    assert (left, middle, right) == pytest.approx((0, 0.5, 1))


@given(st.integers(1, 2000))
def test_ranks(count: int) -> None:
    ticks = rank_ticks(count)
    assert ticks[0] == 1
    assert ticks == sorted(set(ticks))
    assert ticks[-1] <= count
    assert len(ticks) <= 12


def test_a_style_is_not_told_by_colour_alone() -> None:
    assert len({(colour(style), marker(style)) for style in range(24)}) == 24
    assert len({(colour(style), str(dash(style))) for style in range(24)}) == 24


@given(st.lists(st.floats(0, 300), max_size=12))
def test_labels_keep_their_distance(wanted: list[float]) -> None:
    places = spread_labels(sorted(wanted), 17, 20, 300)
    assert all(b - a >= 17 - 1e-6 for a, b in pairwise(places))


def test_gap_in_the_figures_is_a_gap_in_the_curve() -> None:
    drawing = Drawing(line_chart("a", [line(0.1, 0.1, None, 0.2, 0.3)], "x", "y", "label"))
    curves = [p.get("d", "") for p in drawing.root.iter(f"{SVG}path") if "fill: none" in p.get("style", "")]
    assert any(re.fullmatch(r"\s*M [\d. ]+\s+L [\d. ]+\s+M [\d. ]+\s+L [\d. ]+\s*", d) for d in curves)


def test_two_curves_at_one_place_are_both_seen() -> None:
    series = [line(0.1, 0.5, 0.6, name="below", final=True), line(0.1, 0.5, 0.6, name="above", style=1, final=True)]
    drawing = Drawing(line_chart("a", [*series, line(0.9, 0.8, 0.7, name="apart", style=2)], "x", "y", "label"))

    def widths(name: str) -> list[float]:
        groups = [g for g in drawing.root.iter(f"{SVG}g") if g.get("class") == "series"]
        (group,) = (g for g in groups if g.findtext(f".//{SVG}title") == name)
        return [float(x) for x in re.findall(r"stroke-width: ([\d.]+)", ET.tostring(group, encoding="unicode"))]

    assert max(widths("below")) >= 3 * max(widths("above"))
    assert max(widths("above")) == max(widths("apart"))
    names = [g.findtext(f".//{SVG}title") for g in drawing.root.iter(f"{SVG}g") if g.get("class") == "series"]
    assert names.index("below") < names.index("above")  # what is later in SVG is drawn above
    assert drawing.width("below, final: 0.6") > 1.3 * drawing.width("above, final: 0.6")


def test_a_level_is_a_line_of_its_own_with_a_name() -> None:
    chart = line_chart("a", [line(0.1, 0.2)], "x", "y", "label", percent=True, level=Level("always cats", 0.7))
    drawing = Drawing(chart)
    assert "70.0 %  always cats" in drawing.words
    assert chart is not None and list(chart.rows)[-1] == ["always cats", None, 0.7]
    assert "always cats: 70.0 %" in drawing.tips


def test_marks_of_classes_at_one_place_stand_side_by_side() -> None:
    classes = Classes(["cat", "dog"], [9, 1], ["many", "few"])
    series = [line(0.5, 0.5, name="before"), line(0.5, None, name="after", style=1)]
    drawing = Drawing(by_class_chart("a", classes, series, "accuracy", "label"))
    before, after = (drawing.place(f"cat, {name}: 50.0 %") for name in ("before", "after"))
    assert before[0] + 3 < after[0] and before[1] == pytest.approx(after[1], abs=0.02)
    assert drawing.width("cat, before: 50.0 %") > drawing.width("cat, after: 50.0 %")
    assert "dog, before: 50.0 %" in drawing.tips and "dog, after: 50.0 %" not in drawing.tips
    assert {"cat: 9 training images", "dog: 1 training images"} <= set(drawing.tips)
    assert {"many (1)", "few (1)", "cat", "dog", "before", "after"} <= set(drawing.words)


def test_later_marks_of_a_scatter_are_smaller() -> None:
    series = [Series(name, [(5.0, 1.0), (50.0, 1.0)], i) for i, name in enumerate("abc")]
    drawing = Drawing(scatter_chart("a", series, ["cat", "dog"], "norm", "label"))
    tips = [f"cat (5 images), {name}: 1" for name in "abc"]
    assert [drawing.place(tip) for tip in tips] == [pytest.approx(drawing.place(tips[0]), abs=0.02)] * 3
    widths = [drawing.width(tip) for tip in tips]
    assert widths == sorted(widths, reverse=True) and len(set(widths)) == 3


@pytest.mark.parametrize(("least", "first", "line_at_guess"), [(0.6, "50 %", False), (0.3, "0 %", True)])
def test_bars_of_auc_begin_at_guessing_unless_one_is_below(least: float, first: str, line_at_guess: bool) -> None:
    bars = [Bar("a", 0.8, "80 %"), Bar("b", least, "b's")]
    drawing = Drawing(bar_chart("a", bars, "label", guess=0.5))
    shares = sorted({int(w[:-2]) for w in drawing.words if re.fullmatch(r"\d+ %", w)} - {80})
    assert f"{shares[0]} %" == first
    assert ("stroke-dasharray" in drawing.text) == line_at_guess


def test_bars_say_what_their_marks_are() -> None:
    bars = [Bar("a", 0.8, "80 %", notch=0.7, level=0.4), Bar("b", None, "–")]
    drawing = Drawing(bar_chart("a", bars, "label", "before", "always cats"))
    assert {"before", "always cats", "a", "b"} <= set(drawing.words)
    assert {"a: 80 %", "b: –", "a, always cats: 40.0 %"} <= set(drawing.tips)
    assert "before" not in Drawing(bar_chart("a", [Bar("a", 0.8, "80 %")], "label", "before", "always cats")).words


def test_a_share_of_zero_is_not_taken_for_none() -> None:
    cells = [[0.0, None, 1.0]]
    told = Drawing(share_map("a", ["x"], ["p", "q", "r"], cells, "label", zeros=True)).tips
    assert set(told) == {"x, p: 0 %", "x, r: 100 %"}
    assert set(Drawing(share_map("a", ["x"], ["p", "q", "r"], cells, "label")).tips) == {"x, r: 100 %"}


def test_without_a_point_there_is_no_chart() -> None:
    nothing = [line(None, None)]
    assert line_chart("a", nothing, "x", "y", "label") is None
    assert scatter_chart("a", nothing, ["cat", "dog"], "y", "label") is None
    assert by_class_chart("a", Classes(["cat", "dog"], [], ["", ""]), nothing, "y", "label") is None
    assert bar_chart("a", [], "label") is None


def test_any_name_can_be_drawn() -> None:
    classes = Classes(EVIL, [9] * len(EVIL), ["many"] * len(EVIL))
    series = [line(*[0.5] * len(EVIL), name=name, style=i) for i, name in enumerate(EVIL)]
    charts = [
        line_chart("a", series, "x", "y", "label", level=Level(EVIL[1], 0.1)),
        scatter_chart("b", series, EVIL, "y", "label"),
        by_class_chart("c", classes, series, "y", "label"),
        bar_chart("d", [Bar(name, 0.5, name) for name in EVIL], "label"),
    ]
    for chart in charts:
        words = " ".join(Drawing(chart).words)
        assert "$a_b$" in words and "<b>&" in words


def test_ideal_angle_is_that_of_a_simplex() -> None:
    assert ideal_angle(2) == pytest.approx(180)
    assert ideal_angle(3) == pytest.approx(120)
    assert ideal_angle(100) == pytest.approx(math.degrees(math.acos(-1 / 99)))


def test_units() -> None:
    assert [size(n) for n in (0, 999, 1_500, 2.5e9, 3e15, None)] == [
        "0 bytes",
        "999 bytes",
        "1.5 kB",
        "2.5 GB",
        "3,000.0 TB",
        "–",
    ]
    assert [duration(s) for s in (0.25, 61, 3_720, float("nan"))] == ["0.2 s", "1 min 1 s", "1 h 2 min", "–"]


def test_evenly_keeps_both_ends() -> None:
    assert evenly(range(5), 9) == [0, 1, 2, 3, 4]
    few = evenly(range(100), 7)
    assert len(few) == len(set(few)) == 7
    assert few[0] == 0 and few[-1] == 99
