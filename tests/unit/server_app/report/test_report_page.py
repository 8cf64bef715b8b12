"""The page: well-formed, complete, asks for nothing outside, and survives whatever a run left behind."""

import json
import logging
import re
from pathlib import Path

import pytest
from made_up_run import SECTIONS, dump, keep_events, report, report_with, write_run

from common.errors import UserError
from server_app.report import write_report
from server_app.report.geometry import ideal_angle
from server_app.report.record import read_run


def test_complete_run_shows_every_section_and_figure(tmp_path: Path) -> None:
    html, page = report(write_run(tmp_path))
    charts = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(charts) == 9
    assert all(attrs["aria-label"] for attrs in charts)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption")
    assert tags.count("h1") == 1
    for words in (
        "62.0 %",
        "head ψ realigned",
        "after fine-tuning",
        "test-selected",
        "GA-FR",
        "LA-FR",
        "seed: 7",
    ):
        assert words in page.text
    assert "only because this is a simulation" in page.text
    assert "Form of the local test (local-test): keep-classes" in page.text
    assert "not finished" not in page.text
    assert f"{ideal_angle(10):.4f}" in page.text
    assert html.startswith("<!DOCTYPE html>")


def test_nothing_is_requested_from_outside(tmp_path: Path) -> None:
    html, page = report(write_run(tmp_path))
    names = [tag for tag, _ in page.tags]
    assert not {"script", "img", "iframe", "object", "embed"} & set(names)
    for _, attrs in page.tags:
        for key in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attrs.get(key) or "#").startswith(("#", "data:"))
    assert not re.search(r"@import|@font-face|url\((?!#)", html)


@pytest.mark.parametrize(("num_classes", "num_sites"), [(2, 1), (100, 40), (300, 90)])
def test_other_sizes(tmp_path: Path, num_classes: int, num_sites: int) -> None:
    html, page = report(write_run(tmp_path, num_classes, num_sites, rounds=3))
    assert len(html) < 4_000_000
    assert ("60 of the 90 sites" in page.text) == (num_sites == 90)


def test_text_from_the_run_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>&\"'"
    write_run(tmp_path)
    for name in ("config", "federation"):
        value = json.loads((tmp_path / f"{name}.json").read_text())
        value.update({"name": evil, "run-name": evil, "method": evil, "dataset": evil, evil: evil})
        if name == "federation":
            value["classes"][0] = value["site_names"][0] = evil
        dump(tmp_path, **{name: value})
    dump(tmp_path, versions={evil: evil}, frame={evil: evil})
    html, page = report(tmp_path)
    assert "<script" not in html
    assert evil in page.text


def test_run_that_stopped_reports_its_last_evaluation(tmp_path: Path) -> None:
    write_run(tmp_path)
    keep_events(tmp_path, lambda e: e["round"] <= 5 and e.get("stage") != "final" if "round" in e else False)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('\n{"event": "round", "rou')  # the machine went down while it wrote
    _, page = report(tmp_path, "Confusion", "Head norms")
    assert "reached round 5 of 12" in page.text
    assert "last evaluation" in page.text
    assert "1 line(s) of metrics.jsonl" in page.text
    assert "on arrival" in page.text


@pytest.mark.parametrize("missing", ["config", "versions", "frame", "federation", "metrics"])
def test_missing_file(tmp_path: Path, missing: str) -> None:
    write_run(tmp_path)
    next(tmp_path.glob(f"{missing}.json*")).unlink()
    measured = [name for name in SECTIONS if re.search("round|class|Confusion|norms", name)]
    _, page = report(tmp_path, *(measured if missing == "metrics" else []))
    assert (f"{missing}.json" in page.text) == (missing != "frame")


def test_empty_folder(tmp_path: Path) -> None:
    report_with(tmp_path, ("Results", "Sites", "Configuration and cost"))


@pytest.mark.undrawn
@pytest.mark.parametrize("content", [None, "", "\0{", "[1]\n"])
def test_a_report_is_not_replaced_by_one_of_nothing(tmp_path: Path, content: str | None) -> None:
    write_run(tmp_path)
    report(tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    journal = tmp_path / "metrics.jsonl"
    journal.unlink() if content is None else journal.write_text(content)
    with pytest.raises(UserError, match=r"metrics\.jsonl has no event .*report\.html stays"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before


@pytest.mark.undrawn
def test_what_a_report_lacks_is_in_the_log_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_run(tmp_path)
    (tmp_path / "federation.json").write_text("[")
    log = logging.getLogger("fednc")
    log.addHandler(caplog.handler)
    try:
        write_report(tmp_path)
    finally:
        log.removeHandler(caplog.handler)
    assert f"{tmp_path}: federation.json is not readable" in caplog.text


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run's folder"):
        write_report(tmp_path / "nowhere")


def test_broken_files_and_unknown_figures(tmp_path: Path) -> None:
    write_run(tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text()
    lines = re.sub(r'"(mean|std|worst|few|backbone|seconds|bytes_up|accuracy)": [0-9.e+-]+', r'"\1": NaN', lines)
    lines = re.sub(r'"(balanced_accuracy|many)": [0-9.e+-]+', r'"\1": null', lines)
    (tmp_path / "metrics.jsonl").write_text(lines)
    (tmp_path / "versions.json").write_text('{"torch": ')
    dump(tmp_path, frame={"angle_mean": float("nan"), "norm_mean": None})
    _, page = report(tmp_path)
    assert "versions.json is not readable" in page.text


@pytest.mark.parametrize("groups", [[1, 2], {"many": ["a"], "medium": 5, "few": [1.5, None]}, "few"])
def test_groups_that_are_none(tmp_path: Path, groups: object) -> None:
    federation = json.loads((write_run(tmp_path) / "federation.json").read_text())
    dump(tmp_path, federation={**federation, "groups": groups})
    report(tmp_path)


@pytest.mark.filterwarnings("error")
def test_numbers_that_no_axis_can_hold(tmp_path: Path) -> None:
    path = write_run(tmp_path) / "metrics.jsonl"
    heads = {"aux_head": [1e308, -1e308, None] + [1.0] * 7}
    events = [json.loads(line) | {"round": 10**30} for line in path.read_text().splitlines()]
    events.append({"event": "norms", "round": 10**30, "heads": heads})
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    report(tmp_path)


def test_a_resumed_run_counts_a_repeated_round_once(tmp_path: Path) -> None:
    write_run(tmp_path, rounds=3)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() * 2)
    assert len(read_run(tmp_path).of("round")) == 3


def test_classes_are_ordered_by_count_and_heads_by_table(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    assert run.class_order == list(range(10))
    assert run.heads == ["aux_head", "aux_head_realigned", "frame"]
