import json
from collections.abc import Callable
from pathlib import Path

import pytest

from common.config import Experiment
from common.errors import UserError
from common.wire import WireError
from server_app.journal import Clock, Journal, percent, read_events, run_folder


def test_events_are_json_lines_without_nan(tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run", tiny())
    journal.event("round", round=1, loss={"backbone": float("nan")}, values=(1.0, float("inf")))
    journal.event("round", round=2)
    first, second = read_events(tmp_path / "run")
    assert first["loss"] == {"backbone": None} and first["values"] == [1.0, None] and second["round"] == 2
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["method"] == "fedloge"
    versions = json.loads((tmp_path / "run" / "versions.json").read_text())
    assert {"fednc", "flwr", "torch", "python"} <= versions.keys()


def test_one_process_at_a_time_works_in_a_folder(tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    """A run may be taken up while the coordinator that was believed dead still writes."""
    first, second = (Journal(tmp_path / "run", tiny()) for _ in range(2))
    with first.to_the_end(), pytest.raises(UserError, match="another process is at work there"), second.to_the_end():
        pass
    with second.to_the_end():
        pass
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_start_that_came_to_nothing_is_no_run(tiny: Callable[..., Experiment]) -> None:
    experiment = tiny(run_name="mine")
    journal = Journal(experiment.output_dir / "mine", experiment)
    with pytest.raises(WireError), journal.to_the_end():
        raise WireError("no site can take part")
    assert read_events(run_folder(experiment))[-1]["reason"] == "WireError: no site can take part"
    journal.event("generic", round=0)
    with pytest.raises(UserError, match="holds a run"):
        run_folder(experiment)


@pytest.mark.parametrize(("value", "text"), [(0.612, "61.2 %"), (1.0, "100.0 %"), (None, "–"), (float("nan"), "–")])
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


def test_time_left_is_read_as_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 60.0, 60.0])
    monkeypatch.setattr("server_app.journal.time.monotonic", lambda: next(now))
    clock = Clock(100)
    assert clock.left(10) == "9:00"  # 6 s a round, 90 rounds left
    assert clock.left(1) == "1:39:00"
