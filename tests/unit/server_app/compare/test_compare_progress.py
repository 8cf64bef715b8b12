"""What a person sees while a comparison runs."""

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from common.config import Experiment
from server_app.compare.progress import Display, RunProgress
from server_app.run.journal import log

Tiny = Callable[..., Experiment]
LINES = [
    {"event": "personal", "stage": "arrival", "round": 1, "mean": 0.25},
    {"event": "round", "round": 1},
    {"event": "generic", "stage": "training", "round": 1, "head": "aux_head", "balanced_accuracy": 0.5},
    {"event": "generic", "stage": "training", "round": 1, "head": "frame", "balanced_accuracy": 0.75},
    {"event": "personal", "stage": "final", "round": 1, "mean": 0.875},
]


def write(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(text)


def test_a_journal_is_followed_line_by_line(tmp_path: Path) -> None:
    watch = RunProgress(tmp_path / "metrics.jsonl", "aux_head")
    watch.refresh()  # not there yet
    assert watch.words(9) == "round 0 of 9"
    text = "".join(json.dumps(line) + "\n" for line in LINES)
    seen = []
    for i in range(0, len(text), 7):  # as a file may be read between two writes
        write(tmp_path, text[i : i + 7])
        watch.refresh()
        seen.append((watch.round, watch.generic, watch.personal))
    assert list(dict.fromkeys(seen)) == [(0, None, None), (0, None, 0.25), (1, None, 0.25), (1, 0.5, 0.25)]
    assert watch.words(9) == "round 1 of 9, generic 50.0 %, personal 25.0 %"


def test_a_terminal_shows_a_bar_for_all_and_one_for_each_running_cell(tiny: Tiny, tmp_path: Path) -> None:
    screen = io.StringIO()
    with Display(3, 1, 4, Console(file=screen, force_terminal=True, width=100)) as display:
        display.started("fedloge-seed0", tiny(method="fedloge", rounds=2), tmp_path)
        display.started("fedper-seed0", tiny(method="fedper", rounds=2), tmp_path / "other")
        write(tmp_path, json.dumps({**LINES[2], "head": "aux_head_realigned"}) + "\n" + json.dumps(LINES[1]) + "\n")
        display.refresh()
        display.finished("fedper-seed0", "failed: [because] (see log.txt)")
        display.finished("fedloge-seed0", None)
    text = screen.getvalue()
    assert "1 of 3 runs" in text and "2 of 3 runs, 1 failed" in text and " left" in text
    assert "round 1 of 2, generic 50.0 %" in text and "starting" in text
    assert "fedper-seed0: failed: [because] (see log.txt)" in text and "fedloge-seed0: done" in text


def test_elsewhere_there_are_plain_lines(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(record.getMessage()))
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(log, "level", logging.INFO)
    with Display(2, 0, 4) as display:
        display.started("fedavg-seed0", tiny(), tmp_path)
        display.refresh()
        display.finished("fedavg-seed0", None)
    assert lines == ["fedavg-seed0: done"]
    assert capsys.readouterr().out == ""
