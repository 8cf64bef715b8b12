import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from common.config import Experiment
from common.errors import UserError
from common.wire import WireError
from server_app.run import disk
from server_app.run.disk import locked
from server_app.run.journal import Journal, RemainingTime, percent, read_events
from server_app.run.resuming import run_folder


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
    folder, taken = tmp_path / "run", pytest.raises(UserError, match="another process is at work there")
    with locked(folder), taken, locked(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["lock"]  # who comes second has written nothing
    with locked(folder):
        pass


def test_a_disk_that_knows_no_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(disk.fcntl, "flock", flock)
    with (
        pytest.raises(UserError, match=r"lock: cannot be locked \(No locks available\).*another disk"),
        locked(tmp_path),
    ):
        pass


def test_a_runs_identity_is_drawn_once(tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    begun = [Journal(tmp_path / name, tiny(resume=True)).identity for name in ("a", "a", "b")]
    assert begun[0] == begun[1] != begun[2] and len(begun[0]) == 16
    assert Journal(tmp_path / "a", tiny()).identity not in begun  # not taken up: another run
    (tmp_path / "b" / "run.json").unlink()
    assert not Journal(tmp_path / "b", tiny(resume=True)).identity  # of a version without


def test_a_start_that_came_to_nothing_is_no_run(tiny: Callable[..., Experiment]) -> None:
    experiment = tiny(run_name="mine")
    journal = Journal(experiment.run.output_dir / "mine", experiment)
    with pytest.raises(WireError), journal.record_failure():
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
    monkeypatch.setattr("server_app.run.journal.time.monotonic", lambda: next(now))
    clock = RemainingTime(100)
    assert clock.left(10) == "9:00"  # 6 s a round, 90 rounds left
    assert clock.left(1) == "1:39:00"
