"""What tests share: a run is trained once, and nobody changes it or trains it while something is patched."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trained_runs
from trained_runs import TrainedRuns

from common.config import Experiment

Tiny = Callable[..., Experiment]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Experiment]:
    """Return the experiments that are run from now on; each leaves one file."""
    found: list[Experiment] = []

    def run(experiment: Experiment) -> None:
        found.append(experiment)
        folder = experiment.run.output_dir / str(experiment.run.run_name)
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(str(experiment.dump()["rounds"]))

    monkeypatch.setattr(trained_runs, "run_local", run)
    return found


def test_a_run_is_trained_once_and_another_for_each_other_key(
    tiny: Tiny, tmp_path: Path, started: list[Experiment]
) -> None:
    first, second = (TrainedRuns(tmp_path / "all", tiny, tmp_path / name, lambda: None) for name in ("a", "b"))
    folder = first(rounds=3)
    assert second(rounds=3) == second(rounds=3, run_name="mine") == folder and len(started) == 1
    assert second(rounds=3, seed=1) != folder and len(started) == 2
    copy = second.copy(rounds=3, run_name="mine")
    assert copy == tmp_path / "b" / "mine" and (copy / "summary.json").read_text() == "3"
    (copy / "summary.json").unlink()
    first.check()
    second.check()
    os.utime(folder / "summary.json")
    for runs in (first, second):
        with pytest.raises(AssertionError, match=r"changed in .*: summary\.json; take a copy"):
            runs.check()


def test_a_run_that_failed_is_trained_again(
    tiny: Tiny, tmp_path: Path, started: list[Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(experiment: Experiment) -> None:
        (experiment.run.output_dir / "run").mkdir(parents=True)
        raise KeyboardInterrupt

    runs = TrainedRuns(tmp_path / "all", tiny, tmp_path, lambda: None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trained_runs, "run_local", fail)
        runs()
    assert (runs() / "summary.json").exists() and len(started) == 1


def test_nothing_shared_is_trained_while_something_is_patched(
    trained: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [])
    with pytest.raises(AssertionError, match="before anything is patched"):
        trained(rounds=7)
