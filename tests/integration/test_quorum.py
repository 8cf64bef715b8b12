"""Rounds without enough usable replies are repeated, then the run ends and can be taken up."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from safetensors.numpy import load_file
from trained_runs import TrainedRuns

import client_app.app as site_code
from common import wire
from common.config import Experiment
from common.errors import UserError
from server_app.engines.engines import run_local
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]


def break_replies(monkeypatch: pytest.MonkeyPatch, broken: Callable[[wire.Request], bool], nan: bool = False) -> None:
    """Make sites fail, or answer with weights that are not numbers if `nan`, where `broken` says so."""
    real = wire.metrics_reply

    def answer(message: Message, metrics: Any, model: Any = None, *more: Any, **named: Any) -> Message:
        if model and broken(wire.Request(message)):
            if not nan:
                raise RuntimeError("scanner on fire")
            model = {
                name: np.full_like(array, np.nan) if array.dtype.kind == "f" else array for name, array in model.items()
            }
        return real(message, metrics, model, *more, **named)

    monkeypatch.setattr(wire, "metrics_reply", answer)


def models(folder: Path) -> dict[str, Any]:
    paths = [folder / "generic.safetensors", *folder.glob("sites/*/personal_model.safetensors")]
    return {f"{path.relative_to(folder)}:{k}": v for path in paths for k, v in load_file(path).items()}


def test_a_repeated_round_leaves_no_trace_in_the_result(
    tiny: Tiny, trained: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(rounds=3)
    failures = [2, 2, 2, 3, 3, 3]  # all three sites, once in round 2 and once in round 3

    def broken(request: wire.Request) -> bool:
        if failures and failures[0] == request.round:
            failures.pop(0)
            return True
        return False

    with monkeypatch.context() as patch:
        break_replies(patch, broken)
        repeated = run_local(tiny(rounds=3, run_name="repeated"))
    assert not failures
    ours, theirs = models(whole), models(repeated)
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
    events = read_events(repeated)
    assert [e["round"] for e in events if e["event"] == "no-quorum"] == [2, 3]
    assert [e["round"] for e in events if e["event"] == "round"] == [1, 2, 3]
    generic = [(e["round"], e["head"]) for e in events if e["event"] == "generic"]
    assert len(generic) == len(set(generic))


def test_too_many_such_rounds_end_the_run_and_it_can_be_taken_up(
    tiny: Tiny, trained: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(rounds=3)
    with monkeypatch.context() as patch:
        break_replies(patch, lambda request: request.round == 3)
        with pytest.raises(wire.WireError, match=r"round 3: 0 of 3 replies .* 2 are needed; .* resume=true"):
            run_local(tiny(rounds=3, run_name="cut", round_retries=1))
    resumed = run_local(tiny(rounds=3, run_name="cut", round_retries=1, resume=True))
    ours, theirs = models(whole), models(resumed)
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_above_the_quorum_a_bad_site_is_left_out(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    count = []

    def first_of_each_round(request: wire.Request) -> bool:
        count.append(request.round)
        return count.count(request.round) == 1

    break_replies(monkeypatch, first_of_each_round, nan=True)
    events = read_events(run_local(tiny(rounds=2)))
    rejected = [e for e in events if e["event"] == "rejected"]
    assert [e["round"] for e in rejected] == [1, 2] and all("not finite" in e["reason"] for e in rejected)
    assert [e["answered"] for e in events if e["event"] == "round"] == [2, 2]


@pytest.mark.parametrize("kind", ["median", "trimmed-mean", "multi-krum"])
def test_a_run_with_a_robust_aggregation(tiny: Tiny, kind: str) -> None:
    folder = run_local(tiny(aggregation=kind, sites=5, clip_norm=5.0))
    assert (folder / "summary.json").exists()
    with pytest.raises(UserError, match=f"aggregation = '{kind}': bears a wrong site among . or more, and 2 have"):
        run_local(tiny(aggregation=kind, sites=2, run_name="few"))


def test_a_robust_round_of_too_few_models_is_repeated(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two of three replies the median is the mean."""
    break_replies(monkeypatch, lambda request: request.round == 2 and not broken.append(2) and len(broken) == 1)
    broken: list[int] = []
    events = read_events(run_local(tiny(aggregation="median", quorum=0.1)))
    assert [(e["round"], e["answered"]) for e in events if e["event"] == "no-quorum"] == [(2, 2)]
    assert [e["answered"] for e in events if e["event"] == "round"] == [3, 3]


def test_the_last_step_needs_a_quorum_too_and_asks_again(
    tiny: Tiny, trained: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(finetune_epochs=1)
    real, left = site_code.finetune, [4]

    def finetune(*args: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("scanner on fire")
        return real(*args)

    monkeypatch.setattr(site_code, "finetune", finetune)
    again = run_local(tiny(finetune_epochs=1, run_name="again"))  # all three once, one of them twice
    ours, theirs = models(whole), models(again)
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)
    left[0] = 100
    with pytest.raises(wire.WireError, match=r"personal models: 0 of 3 sites have made one; .* resume=true"):
        run_local(tiny(finetune_epochs=1, run_name="cut", round_retries=1))
    assert left[0] == 100 - 6
    left[0] = 0
    theirs = models(run_local(tiny(finetune_epochs=1, run_name="cut", round_retries=1, resume=True)))
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
