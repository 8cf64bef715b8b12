"""Heat maps, clouds of features, and the places of names in charts."""

import re
from collections.abc import Sequence
from math import log
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_app.report.charts import Chart, Series, cloud_chart, cosine_map, heatmap, numbers_of_columns, share_map
from server_app.report.charts.cloud import _clouds
from server_app.report.charts.heatmap import shade_of
from server_app.report.charts.places import name_frame, place_names
from server_app.report.charts.theme import COLOURS

SVG = "{http://www.w3.org/2000/svg}"


def texts(chart: Chart | None) -> list[str]:
    """Return the words of a chart."""
    assert chart is not None
    return [element.text or "" for element in ET.fromstring(chart.svg()).iter(f"{SVG}text")]


def tips(chart: Chart | None) -> dict[str, str]:
    """Return what the marks of a chart say, with the style of each."""
    assert chart is not None
    root = ET.fromstring(chart.svg())
    parents = {child: parent for parent in root.iter() for child in parent}
    found: dict[str, str] = {}
    for title in root.iter(f"{SVG}title"):
        mark = parents[title]
        shape = mark.find(f"{SVG}path") if mark.tag == f"{SVG}g" else mark
        assert shape is not None
        found[title.text or ""] = shape.get("style", parents[shape].get("style", ""))
    return found


def opacity(style: str) -> float:
    (found,) = re.findall(r"fill-opacity: ([\d.]+)", style)
    return float(found)


@given(st.integers(1, 10**6))
def test_a_shade_grows_with_the_logarithm_of_a_count(most: int) -> None:
    counts = sorted({1, (most + 1) // 2, most})
    shades = [shade_of(n, most) for n in counts]
    assert shades == sorted(set(shades))
    assert shades[-1] == pytest.approx(1)
    expected = [0.08 + 0.92 * log(1 + n) / log(1 + most) for n in counts]
    assert shades == pytest.approx(expected)


def test_a_heat_map_names_every_count_and_sums_its_rows() -> None:
    chart = heatmap("a", ["site-0", "site-1"], ["cat", "dog"], [[3, 0], [1200, 40]], "label", "labels")
    assert set(tips(chart)) == {"site-0, cat: 3", "site-1, cat: 1,200", "site-1, dog: 40"}
    shades = [opacity(tips(chart)[tip]) for tip in ("site-0, cat: 3", "site-1, dog: 40", "site-1, cat: 1,200")]
    assert shades == sorted(set(shades))
    assert {"labels", "3", "1,240", "site-0", "site-1", "cat", "dog"} <= set(texts(chart))
    assert chart is not None and chart.rows == [
        ["site-0", "cat", 3], ["site-0", "dog", 0], ["site-1", "cat", 1200], ["site-1", "dog", 40],
    ]  # fmt: skip
    assert "labels" not in texts(heatmap("a", ["a"], ["b"], [[3.0]], "label", ""))
    assert heatmap("a", ["a"], ["b"], [[0.0]], "label") is None


def test_cosines_below_zero_have_another_colour_and_a_minus() -> None:
    found = tips(cosine_map("a", ["a", "b"], [[1.0, -0.5], [-0.5, None]], "label"))
    assert set(found) == {"a, a: 1.00", "a, b: −0.50", "b, a: −0.50"}
    assert "var(--s1)" in found["a, b: −0.50"] and "var(--s0)" in found["a, a: 1.00"]
    assert opacity(found["a, b: −0.50"]) == pytest.approx(opacity(found["a, a: 1.00"]) / 2, abs=0.006)
    assert set(tips(cosine_map("a", ["a"], [[-0.001]], "label"))) == {"a, a: 0.00"}


def test_shares_are_written_in_per_cent() -> None:
    chart = share_map("a", ["cat"], ["cat", "dog", "cow"], [[0.25, None, 0.75]], "label")
    assert set(tips(chart)) == {"cat, cat: 25 %", "cat, cow: 75 %"}
    assert share_map("a", [], [], [], "label") is None


@pytest.mark.parametrize(("count", "numbered", "named"), [(14, True, True), (25, False, True), (26, False, False)])
def test_numbers_and_names_stand_where_there_is_room(count: int, numbered: bool, named: bool) -> None:
    columns = [f"c{j}" for j in range(count)]
    chart = share_map("a", ["row"], columns, [[0.33] * count], "label")
    assert (texts(chart).count("33 %") == count) == numbered
    assert (set(columns) <= set(texts(chart))) == named
    assert len(tips(chart)) == count
    assert named or {"1", "10", "20"} <= set(texts(chart)) or {"1", "5", "25"} <= set(texts(chart))


def test_a_map_is_named_after_what_its_shares_are() -> None:
    chart = share_map("a", ["site-0"], ["cat"], [[0.9]], "label", what="AUC")
    assert "AUC:" in texts(chart) and "share:" not in texts(chart)
    assert chart is not None and chart.columns == ["row", "column", "AUC"]


@pytest.mark.parametrize("more", [[], ["any other"]])
def test_columns_without_names_have_the_numbers_of_their_rows(more: list[str]) -> None:
    names = [f"a kind of long name {j}" for j in range(40)]
    shown = texts(share_map("a", names, [*names, *more], [[0.5] * (40 + len(more))] * 40, "label"))
    assert {"a kind of long n… 1", "a kind of long n… 40"} <= set(shown) and "20" in shown
    assert numbers_of_columns(40) and not numbers_of_columns(25)
    few = texts(share_map("a", names[:25], names[:25], [[0.5] * 25] * 25, "label"))
    assert "a kind of long name…" in few and not any(text.endswith("… 1") for text in few)
    assert "site" in texts(share_map("a", ["site"], names, [[0.5] * 40], "label"))  # its columns are others


def luminance(colour: Sequence[float]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("value", [1.0, -1.0])
def test_numbers_can_be_read_on_the_strongest_shade(dark: bool, value: float) -> None:
    def rgb(name: str) -> list[float]:
        text = COLOURS[name][dark]
        return [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]

    (style,) = tips(cosine_map("a", ["a"], [[value]], "label")).values()
    alpha = opacity(style)
    cell = [alpha * a + (1 - alpha) * b for a, b in zip(rgb("s0" if value > 0 else "s1"), rgb("bg"), strict=True)]
    low, high = sorted((luminance(cell), luminance(rgb("fg"))))
    assert (high + 0.05) / (low + 0.05) > 4


def test_a_cloud_names_each_class_in_its_key_and_at_its_median() -> None:
    series = [Series("a", [(0, 0), (1, 5)], 0), Series("b", [(2, 2)], 1), Series("c", [(3, None)], 2)]
    chart = cloud_chart("a", series, "label")
    assert sorted(texts(chart)) == ["a", "a", "b", "b"]  # of c nothing is known
    assert chart is not None and len(chart.rows) == 3
    assert cloud_chart("a", series[2:], "label") is None


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=9))
def test_a_cloud_keeps_within_the_chart(points: list[tuple[float, float]]) -> None:
    (spots,) = _clouds([Series("a", points, 0)], 50.0)
    assert all(19.9 <= x <= 880.1 and 69.9 <= y <= 550.1 for x, y in spots)


def test_a_unit_of_a_cloud_is_as_long_across_as_down() -> None:
    ((a, b, c),) = _clouds([Series("a", [(0, 0), (4, 0), (0, 3)], 0)], 50.0)
    assert (b[0] - a[0]) / 4 == pytest.approx((a[1] - c[1]) / 3)


@given(st.lists(st.tuples(st.floats(100, 800), st.floats(60, 400)), min_size=1, max_size=8))
def test_names_lie_within_the_chart_and_upon_no_other(spots: list[tuple[float, float]]) -> None:
    width, box = 70.0, (56.0, 34.0, 900.0, 440.0)
    places = place_names(spots, [width] * len(spots), box)
    frames = [name_frame(place, width) for place in places]
    assert all(
        box[0] <= left and right <= box[2] and box[1] <= top and down <= box[3] for left, top, right, down in frames
    )
    pairs = [(a, b) for i, a in enumerate(places) for b in places[:i]]
    assert all(abs(a[0] - b[0]) >= width or abs(a[1] - b[1]) >= 13 for a, b in pairs)
