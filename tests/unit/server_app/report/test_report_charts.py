"""The charts' axes, ticks and labels, and the report's units."""

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_app.report.axes import Axis, colour, count_axis, count_ticks, form, log_ticks, nice_ticks, value_axis
from server_app.report.charts import Series, line_chart, rank_ticks, spread_labels
from server_app.report.geometry import ideal_angle
from server_app.report.heatmaps import shade_of
from server_app.report.points import Point, place_names, plane_chart
from server_app.report.setup import duration, size
from server_app.report.sites import evenly


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6))
def test_nice_ticks_lie_within_and_are_even(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert 2 <= len(ticks) <= 11
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in ticks)


@given(st.floats(1e-6, 1e6), st.floats(2, 1e6))
def test_log_ticks_ascend_within(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor)
    assert ticks == sorted(ticks)
    assert all(low * 0.99 <= t <= low * factor * 1.01 for t in ticks)


@given(st.lists(st.floats(-1e9, 1e9), max_size=9))
def test_value_axis_holds_its_values(values: list[float]) -> None:
    axis = value_axis(values, 300, 20)
    assert axis.low < axis.high
    slack = 1e-6 * (axis.high - axis.low)
    assert all(axis.low - slack <= v <= axis.high + slack for v in values)
    assert all(20 <= axis.at(v) <= 300 for v in values)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_an_axis_that_need_not_begin_at_zero_holds_its_values(values: list[float]) -> None:
    axis = value_axis(values, 300, 20, percent=True, from_zero=False)
    assert axis.low < axis.high
    assert all(axis.low - 1e-6 <= v <= axis.high + 1e-6 for v in values)


def test_a_style_is_not_told_by_colour_alone() -> None:
    assert len({(colour(style), form(style)) for style in range(24)}) == 24


@given(st.lists(st.tuples(st.floats(100, 800), st.floats(60, 400)), min_size=1, max_size=8))
def test_names_lie_within_the_chart_and_upon_no_other(spots: list[tuple[float, float]]) -> None:
    width, box = 70.0, (56.0, 34.0, 900.0, 440.0)
    places = place_names(spots, [width] * len(spots), box)
    assert all(box[0] <= x and x + width <= box[2] and box[1] <= y - 10 and y + 3 <= box[3] for x, y in places)
    pairs = [(a, b) for i, a in enumerate(places) for b in places[:i]]
    assert all(abs(a[0] - b[0]) >= width or abs(a[1] - b[1]) >= 13 for a, b in pairs)


def test_points_without_an_x_stand_in_a_strip_of_their_own() -> None:
    points = [Point("both", 0.5, 0.75, 0.1, 0.1, 0), Point("one", None, 0.5, 0.0, 0.1, 1)]
    assert "no x here" in plane_chart(points, "x", "y", "label", no_x="no x here")
    assert "no x here" not in plane_chart(points[:1], "x", "y", "label", no_x="no x here")
    assert plane_chart(points[1:], "x", "y", "label", no_x="no x here").count("<path") == 1
    assert plane_chart([], "x", "y", "label", no_x="no x here") == ""


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_count_axis_draws_zero(counts: list[int]) -> None:
    axis = count_axis(counts, 0, 100)
    assert all(0 <= axis.at(n) <= 100 for n in counts)
    assert ((0.5, "0") in count_ticks(axis)) == (0 in counts)


@given(st.lists(st.floats(0, 300), max_size=12))
def test_labels_keep_their_distance(wanted: list[float]) -> None:
    places = spread_labels(sorted(wanted), 17, 20, 300)
    assert all(b - a >= 17 - 1e-6 for a, b in pairwise(places))


@given(st.integers(1, 2000))
def test_ranks_and_shades(count: int) -> None:
    ticks = rank_ticks(count)
    assert ticks[0] == 1
    assert ticks == sorted(set(ticks))
    assert ticks[-1] <= count
    assert 0 < shade_of(1, count) <= shade_of(count, count) <= 1


def test_axis_is_exact_at_its_ends() -> None:
    assert Axis(1, 100, 10, 210, log=True).at(10) == 110
    assert Axis(0, 1, 300, 20).at(0.5) == 160


def test_gap_in_the_figures_is_a_gap_in_the_curve() -> None:
    chart = line_chart([Series("a", [(0, 0.1), (1, None), (2, 0.2), (3, 0.3)], 0)], "x", "y", "label")
    assert re.search(r'd="M[\d. ]+M[\d. ]+L[\d. ]+"', chart)


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
