"""A run may be given more rounds, and then equals one that had them from the start, bit for bit on a CPU."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared_runs import PowerCutError, arrays_of, metrics_of
from trained_runs import TrainedRuns

from common.config import APP_ROOT, Experiment
from common.config.rows import keys_where
from common.errors import UserError
from server_app.engines.engines import run_local
from server_app.rounds.strategy import FedStrategy
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]


def same(ours: Path, theirs: Path) -> bool:
    expected, found = arrays_of(theirs), arrays_of(ours)
    return expected.keys() == found.keys() and all(np.array_equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("method", ["fedloge", "creff", "fedavg"])
def test_a_finished_run_that_is_extended_equals_a_longer_one(tiny: Tiny, trained: TrainedRuns, method: str) -> None:
    values: dict[str, Any] = {"method": method, "participation": 0.7, "evaluate_every": 3}
    whole = trained(**values, rounds=8)
    folder = run_local(tiny(**values, rounds=4, run_name="short"))
    assert json.loads((folder / "config.json").read_text())["rounds"] == 4
    assert run_local(tiny(**values, rounds=8, run_name="short", resume=True)) == folder
    assert same(folder, whole)
    assert metrics_of(folder) == metrics_of(whole)
    (changed,) = [event for event in read_events(folder) if event["event"] == "changed"]
    assert changed["round"] == 4 and changed["keys"] == {"rounds": [4, 8]}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Keys that changed where the run was taken up" in page and "has not finished" not in page


def test_a_stopped_run_may_be_extended_and_ended_early(
    tiny: Tiny, trained: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {rounds: trained(rounds=rounds) for rounds in (2, 5)}
    for rounds, name in ((5, "longer"), (2, "ended")):
        with monkeypatch.context() as patch, pytest.raises(PowerCutError):
            patch.setattr(FedStrategy, "_record_round", stop_in_round_3)
            run_local(tiny(rounds=4, run_name=name))
        folder = run_local(tiny(rounds=rounds, run_name=name, resume=True))
        assert metrics_of(folder) == metrics_of(whole[rounds])
        expected, found = arrays_of(whole[rounds]), arrays_of(folder)
        assert all(np.array_equal(expected[key], found[key]) for key in expected)


def stop_in_round_3(self: FedStrategy, real: Any = FedStrategy._record_round) -> None:
    if self._round.number == 3:
        raise PowerCutError
    real(self)


def test_earlier_results_stay_until_the_extended_run_ends(
    tiny: Tiny, trained: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained.copy(rounds=2)
    names = ["generic.safetensors", "summary.json", "report.html"]
    paths = [*(folder / name for name in names), *folder.glob("sites/*/personal_model.safetensors")]
    before = {path: path.read_bytes() for path in paths}
    assert len(before) == 6
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(FedStrategy, "_record_round", stop_in_round_3)
        run_local(tiny(rounds=4, resume=True))
    assert {path: path.read_bytes() for path in paths} == before
    run_local(tiny(rounds=4, resume=True))
    assert all(path.read_bytes() != content for path, content in before.items())


def test_fewer_rounds_than_are_done_are_refused(tiny: Tiny, trained: TrainedRuns) -> None:
    folder = trained.copy(rounds=3)
    before = {path: path.read_bytes() for path in folder.rglob("*.json*")}
    with pytest.raises(
        UserError, match=r"resume: rounds = 2, but the run in .*run has 3 rounds behind it: give 3.*or more"
    ):
        run_local(tiny(rounds=2, resume=True))
    assert {path: path.read_bytes() for path in folder.rglob("*.json*")} == before


def test_keys_that_are_free_on_resume_leave_finished_rounds_as_they_are(
    tiny: Tiny, trained: TrainedRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    """Evaluating more often, or waiting longer, changes no weight."""
    whole = trained(rounds=4, evaluate_every=2)
    run_local(tiny(rounds=2, evaluate_every=2, run_name="cut"))
    more = {"evaluate_every": 1, "quorum": 0.9, "round_timeout": 60, "rest_after": 1, "rounds": 4}
    folder = run_local(tiny(**more, run_name="cut", resume=True))
    assert same(folder, whole)
    assert "from round 3 on: evaluate-every = 1 (was 2); quorum = 0.9 (was 0.5)" in capsys.readouterr().out
    again = run_local(tiny(rounds=4, evaluate_every=1, run_name="cut", resume=True, finetune_epochs=1))
    assert json.loads((again / "summary.json").read_text())["personal"]["finetuned"]["mean"] is not None


def test_keys_that_decide_finished_rounds_stay(tiny: Tiny, trained: TrainedRuns) -> None:
    trained.copy(rounds=1)
    for key, value in (("learning_rate", 0.5), ("local_epochs", 2), ("seed", 3), ("wire", "half"), ("sites", 4)):
        with pytest.raises(UserError, match=f"resume: {key.replace('_', '-')} = .*use the same"):
            run_local(tiny(**{"rounds": 2, "resume": True, key: value}))


def test_the_page_of_keys_says_which_may_change() -> None:
    page = (APP_ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| `([\w-]+)`.*\| (fixed|onward|host) \|$", page, re.MULTILINE))
    for kind in ("host", "onward", "fixed"):
        assert {key for key, of in said.items() if of == kind} == keys_where(lambda facts, of=kind: facts.resume == of)
