"""The page of a comparison: the tables' metrics, the curves and charts of what each method has, what is missing."""

import re
from collections.abc import Callable
from typing import Any

from made_up_run import Page

from common.config import Experiment
from common.methods import METHODS
from server_app.compare.charts import by_round
from server_app.compare.page import comparison_page
from server_app.compare.runner import Cell
from server_app.compare.tables import Entry, rows_of

Tiny = Callable[..., Experiment]
SECTIONS = [
    "Results",
    "Many, medium and few",
    "Accuracy by round",
    "Generic against personal",
    "Cost",
    "Configuration",
    "Versions",
]


def result(method: str, level: float = 0.5, code: str = "f00d" * 8) -> dict[str, Any]:
    """Return a finished run of a method whose last metrics are `level`."""
    row = METHODS[method]
    heads = dict.fromkeys(filter(None, (row.generic_head, row.reported_head)))
    figures = dict.fromkeys(("accuracy", "balanced_accuracy", "many", "medium", "few"), level)
    stages = ("final", "realigned", "finetuned") if row.realigns else ("final", "finetuned")
    curve = [[0, 0.1], [1, level / 2], [2, level]]
    return {
        "versions": {"torch": "2.15", "code": code},
        "summary": {
            "generic": dict.fromkeys(heads, figures),
            "personal": {stage: {"mean": level + 0.1 * i} for i, stage in enumerate(stages)},
            "cost": {"seconds": 90.0, "bytes_down": 1.5e6, "bytes_up": 2.5e6},
        },
        "curves": dict.fromkeys(heads, curve) | {"personal": curve[:-1]},
    }


def entry(tiny: Tiny, method: str, *results: dict[str, Any] | None, variant: str = "", **changes: Any) -> Entry:
    cells = (Cell(tiny(method=method, seed=seed, **changes), variant) for seed in range(len(results)))
    return Entry(tuple(cells), results)


def render(*entries: Entry) -> tuple[str, Page]:
    html = comparison_page(entries, list(rows_of(entries))).html()
    page = Page(html)
    assert [heading.split(". ", 1)[1] for heading in page.headings] == SECTIONS
    assert not re.search(r"@import|@font-face|url\((?!#)|<script|https?://(?!www\.w3\.org/2000/svg)", html)
    return html, page


def charts(page: Page) -> list[str]:
    return [str(attrs["aria-label"]) for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]


def test_the_page_shows_every_method_and_what_is_missing(tiny: Tiny) -> None:
    methods = {name: entry(tiny, name, result(name, 0.5), result(name, 0.7)) for name in METHODS}
    methods["fedprox"] = entry(tiny, "fedprox", result("fedprox", 0.5), None)
    methods["ditto"] = entry(tiny, "ditto", None, None)
    html, page = render(*methods.values())
    assert "FedProx: 1; Ditto: 0, 1." in page.text
    assert f"runs: {2 * len(METHODS) - 3} of {2 * len(METHODS)}" in page.text
    assert "60.0 ± 14.1" in page.text  # the table of results.md
    assert len(charts(page)) == 5  # groups, two of curves, two planes
    assert "Mean over 2 seeds (FedAvg, " in page.text and "1 seed (FedProx)." in page.text
    assert "1 min 30 s" in page.text and "4.0 MB" not in page.text and "1.5 MB" in page.text
    assert "best of any evaluation" in page.text
    personal_only = [row.title for row in METHODS.values() if row.reported_head is None]
    assert personal_only and all(html.count(f"<title>{title}</title>") == 1 for title in personal_only)
    assert html.count("<title>FedLoGe</title>") == 2  # a generic and a personal curve


def test_a_method_is_drawn_by_the_head_that_it_is_judged_by(tiny: Tiny) -> None:
    judged = result("fedloge", 0.5)
    judged["summary"]["generic"]["aux_head_realigned"] = dict.fromkeys(judged["summary"]["generic"]["aux_head"], 0.8125)
    judged["curves"]["aux_head_realigned"] = [[0, 0.1], [2, 0.8125]]
    _, page = render(entry(tiny, "fedloge", judged))
    assert "FedLoGe, few: 81.2 %" in page.tooltips
    assert "FedLoGe, 2: 81.2 %" in page.tooltips
    assert "FedLoGe: 81.2 %, 60.0 %" in page.tooltips  # against the realigned personal models
    assert "FedLoGe: 81.2 %, 70.0 %" in page.tooltips  # against the fine-tuned ones


def test_the_personal_figure_is_of_the_papers_stage_and_the_best_counts_the_last_round(tiny: Tiny) -> None:
    rows = {name: list(rows_of([entry(tiny, name, result(name, 0.5))]))[-1] for name in METHODS}
    expected = {"fedavg": "50.0", "fedrod": "50.0", "fedloge": "60.0", "fedbabu": "60.0", "fedetf": "60.0"}
    assert {name: rows[name]["PM"] for name in expected} == expected  # trained, realigned or fine-tuned
    late = result("fedper", 0.5)
    late["curves"]["personal"] = [[0, 0.1], [1, 0.3]]  # the last arrival is of the round before the last
    (row,) = rows_of([entry(tiny, "fedper", late)])
    assert row["best GM, personal as trained (test-selected)"] == "–, 50.0"


def test_a_study_names_its_variants(tiny: Tiny) -> None:
    html, page = render(
        *(
            entry(tiny, "fedloge", result("fedloge"), variant=f"sparsity={value}", sparsity=value)
            for value in (0.2, 0.4)
        )
    )
    assert html.count("<title>sparsity=0.2</title>") == 2
    assert "FedLoGe, sparsity=0.4" in page.text
    assert "variants: 2" in page.text
    assert re.search(r"sparsity +0\.2, 0\.4 +0\.6", page.text)  # key, values, default
    assert not re.search(r"\bseed  *0", page.text)


def test_versions_that_differ_are_told_by_run(tiny: Tiny) -> None:
    _, page = render(entry(tiny, "fedavg", result("fedavg"), result("fedavg", code="beef" * 8)))
    assert "f00df00df00df00… (1 run), beefbeefbeefbee… (1 run)" in page.text
    assert "Not all runs ran on the same versions" in page.text
    _, page = render(entry(tiny, "fedavg", result("fedavg"), result("fedavg")))
    assert "All runs ran on the same versions" in page.text


def test_only_personal_methods_and_nothing_from_outside(tiny: Tiny) -> None:
    evil = "<script>alert('x')</script>"
    one = result("fedper")
    one["versions"] = {evil: evil}
    one["summary"]["personal"] = {}
    one["curves"] = {}
    _, page = render(entry(tiny, "fedper", one, variant=evil))
    assert evil in page.text
    assert charts(page) == []


def test_a_curve_has_the_rounds_that_every_seed_measured() -> None:
    curve = by_round([[[0, 0.1], [5, 0.25], [10, 0.5]], [[0, 0.2], [5, 0.75]]])
    assert curve == [(5.0, [0.25, 0.75])]
    assert by_round([None, [[5, 0.5]]]) == []
