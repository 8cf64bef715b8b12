"""A journal's lines that are no events are named and left out, whoever reads the journal."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import APP_ROOT, Experiment
from common.errors import UserError
from server_app.compare.progress import RunProgress
from server_app.compare.runner import curves
from server_app.report import write_report
from server_app.report.record import read_run
from server_app.run.events import KINDS, parse_line, parse_lines
from server_app.run.journal import Journal, read_events
from server_app.run.resuming import run_folder
from server_app.run.summary import summarise

GOOD = [
    {"event": "begin", "round": 0},
    {"event": "round", "round": 1, "asked": 3, "answered": 3, "seconds": 1.0, "bytes_down": 9, "bytes_up": 8},
    {"event": "generic", "round": 1, "stage": "final", "head": "aux_head", "balanced_accuracy": 0.5, "accuracy": 0.5}
    | dict.fromkeys(("many", "medium", "few")),
    {"event": "personal", "round": 1, "stage": "final", "mean": 0.5, "std": None, "worst": 0.5, "worst_site": "a"},
]
BAD = {
    "5": "no object with keys",
    "[]": "no object with keys",
    "null": "no object with keys",
    "{": "no JSON",
    '{"round": 1}': "event: field required",
    '{"event": 7, "round": 1}': "event: should be a valid string",
    '{"event": ["round"], "round": 1}': "event: should be a valid string",
    '{"event": "round"}': "round: field required",
    '{"event": "round", "round": "1"}': "round: should be a valid integer",
    '{"event": "round", "round": 1, "seconds": "3"}': "seconds: should be a valid number",
    '{"event": "round", "round": 1, "bytes_up": null}': "bytes_up: should be a valid integer",
    '{"event": "generic", "round": 1}': "head: field required",
    '{"event": "generic", "round": 1, "head": "aux_head", "balanced_accuracy": []}': "balanced_accuracy: ",
    '{"event": "personal", "round": 1, "stage": "final"}': "mean: field required",
    '{"event": "personal", "round": 1, "stage": "arrival", "mean": 1, "sites": [1]}': "sites: should be a valid dict",
    '{"event": "rejected", "round": {}}': "round: should be a valid integer",
}


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    log = logging.getLogger("fednc")
    log.addHandler(caplog.handler)
    yield caplog
    log.removeHandler(caplog.handler)


def write(folder: Path, bad: str) -> None:
    lines = [json.dumps(event) for event in GOOD]
    (folder / "metrics.jsonl").write_text("\n".join([*lines[:2], bad, *lines[2:]]) + "\n")


@pytest.mark.parametrize(("bad", "reason"), BAD.items(), ids=list(BAD))
def test_every_reader_names_a_line_that_is_no_event_and_goes_on(
    tmp_path: Path, tiny: Callable[..., Experiment], bad: str, reason: str, heard: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(tiny().dump()))
    write(tmp_path, bad)
    named = f"1 line(s) of metrics.jsonl are not as they should be: line 3: {reason}"
    assert read_events(tmp_path) == GOOD and named in heard.text and str(tmp_path) in heard.text
    summary = summarise(tmp_path)
    assert summary.headline["personal"] == 0.5 and "50.0 %" in summary.as_text()
    assert curves(tmp_path) == {"aux_head": [[1, 0.5]]}
    assert any(problem.startswith(named) for problem in read_run(tmp_path).problems)
    assert "of metrics.jsonl are not as they should be" in write_report(tmp_path).read_text(encoding="utf-8")
    watch = RunProgress(tmp_path / "metrics.jsonl", "aux_head")
    watch.refresh()
    assert (watch.round, watch.generic) == (1, 0.5)


def test_where_a_run_is_taken_up_such_lines_are_moved_beside_it(
    tmp_path: Path, tiny: Callable[..., Experiment], heard: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path, tiny())
    (tmp_path / "metrics.jsonl").write_text("\n".join([json.dumps(GOOD[0]), *BAD, json.dumps(GOOD[1])]) + "\n")
    journal.rewind(1)
    assert read_events(tmp_path) == GOOD[:2]
    assert (tmp_path / "metrics.undone.jsonl").read_text().splitlines() == list(BAD)
    assert f"{len(BAD)} line(s) of metrics.jsonl are not as they should be: line 2: " in heard.text
    assert f"and {len(BAD) - 5} more; they are moved to metrics.undone.jsonl" in heard.text


def test_a_folder_whose_journal_has_only_such_lines_holds_a_run(tiny: Callable[..., Experiment]) -> None:
    experiment = tiny(run_name="mine")
    folder = experiment.run.output_dir / "mine"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("5\n")
    with pytest.raises(UserError, match="holds a run"):
        run_folder(experiment)


def test_an_event_of_another_version_is_kept_and_named() -> None:
    lines = parse_lines('{"event": "moon", "phase": 3}\n')
    assert lines.events == [{"event": "moon", "phase": 3}]
    assert lines.problems == [(1, "an event that this version does not know, 'moon'")]


def test_half_a_last_line_is_what_a_crash_leaves(tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "rou')
    assert read_events(tmp_path) == GOOD and not heard.text
    assert any("is half a line" in problem for problem in read_run(tmp_path).problems)


def test_a_journal_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be read .*is .* a run's folder"):
        read_events(tmp_path)


@given(text=st.text(max_size=60) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_line_raises(text: str) -> None:
    event, reason = parse_line(text)
    assert event is None or isinstance(event["event"], str)
    assert event is not None or reason or not text.strip()


def test_every_event_that_is_written_is_known() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (APP_ROOT / "server_app").rglob("*.py")]
    written = {kind for text in texts for kind in re.findall(r'\.event\(\s*"([a-z-]+)"', text)}
    assert len(written) > 10 and written <= KINDS.keys()
