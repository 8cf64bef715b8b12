"""Heads of methods that train start from class means or ridge regression on the features of the first backbone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.linear_model import Ridge
from trained_runs import TrainedRuns

from client_app import app as client
from common.config import Experiment
from common.data import build_federation
from common.errors import UserError, WireError
from common.methods import METHODS
from common.models.features import extract_features, feature_batches
from common.models.model import Model, build_model
from server_app.engines.engines import run_local
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
START: dict[str, Any] = {"head_start": "ridge", "head_bias": True}


def head_of(folder: Path) -> dict[str, Any]:
    return load_file(folder / "head_start.safetensors")


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder) if event["event"] == kind]


def accuracy(folder: Path, server_round: int) -> float:
    (found,) = [e["accuracy"] for e in events(folder, "generic") if e["round"] == server_round]
    return float(found)


@pytest.mark.parametrize(("word", "solver"), [("ridge", "fedridge"), ("ncm", "fedncm")])
def test_before_round_1_the_head_is_the_solved_one(trained: TrainedRuns, word: str, solver: str) -> None:
    folder, solved = trained(method="fedavg", **START | {"head_start": word}), trained(method=solver, rounds=1)
    expected, found = load_file(solved / "generic.safetensors"), head_of(folder)
    assert found["weight"].tobytes() == expected["aux_head.weight"].tobytes()
    assert np.array_equal(found["bias"], expected.get("aux_head.bias", np.zeros(10)))
    assert accuracy(folder, 0) == accuracy(solved, 1) > accuracy(trained(method="fedavg", head_bias=True), 0)
    (facts,), (of_solved,) = events(folder, "head-start"), events(solved, "method")
    assert facts["sums_sha256"] == of_solved["sums_sha256"] and facts["sites"] == 3


def test_without_a_bias_the_head_is_scikit_learns_without_intercept(tiny: Tiny, trained: TrainedRuns) -> None:
    folder = trained(method="fedavg", head_start="ridge")
    head, experiment = head_of(folder), tiny(method="fedavg")
    (strength,) = events(folder, "head-start")[0]["ridge_lambda"]
    federation = build_federation(experiment)
    dataset, rows = federation.dataset, np.concatenate(federation.train_rows)
    features, labels = extract_features(build_model(experiment, 1, 10).backbone, dataset.train, rows, dataset)
    weights = len(rows) / (10 * np.bincount(labels, minlength=10))
    step = 64 * 2.0**-21
    pooled = Ridge(alpha=strength, solver="cholesky", fit_intercept=False).fit(
        np.round(features.double().numpy() / step) * step, np.eye(10)[labels], sample_weight=weights[labels]
    )
    assert head.keys() == {"weight"} and np.abs(head["weight"] - pooled.coef_).max() < 1e-5


@pytest.mark.parametrize("method", ["fedloge", "fedper", "fedbabu", "ditto", "fedrod", "creff"])
def test_every_head_starts_there_at_each_site(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """A site's own heads, too; Ditto's starts as ψ, FedROD's at 0."""
    seen: list[dict[str, np.ndarray]] = []
    train = client.train_site

    def looked_at(model: Model, *args: Any, **options: Any) -> Any:
        seen.append({name: value.numpy().copy() for name, value in model.state_dict().items() if "head" in name})
        return train(model, *args, **options)

    monkeypatch.setattr(client, "train_site", looked_at)
    folder = run_local(tiny(method=method, rounds=1, head_start="ridge"))
    weight = head_of(folder)["weight"]
    assert len(seen) == 3
    for heads in seen:
        assert {f"{name}.weight" for name in METHODS[method].heads} <= heads.keys()
        for name in METHODS[method].heads:
            starts_at_0 = (method, name) == ("fedrod", "personal_head")
            assert np.array_equal(heads[f"{name}.weight"], 0 * weight if starts_at_0 else weight), name


@pytest.mark.parametrize("method", ["fedloge", "fedbabu"])
def test_a_resumed_run_equals_an_uninterrupted_one(tiny: Tiny, trained: TrainedRuns, method: str) -> None:
    whole = trained(method=method, head_start="ridge")
    half = run_local(tiny(method=method, head_start="ridge", rounds=1, run_name="half"))
    run_local(tiny(method=method, head_start="ridge", run_name="half", resume=True))
    assert len(events(half, "head-start")) == 1
    names = [path.relative_to(whole) for path in whole.rglob("*model.safetensors")] + [Path("generic.safetensors")]
    assert len(names) == 4
    for name in names:
        ours, theirs = load_file(half / name), load_file(whole / name)
        assert ours.keys() == theirs.keys()
        assert all(ours[array].tobytes() == theirs[array].tobytes() for array in ours), name


def test_labels_of_their_own_start_from_ridge(tiny_for: Tiny, trained: TrainedRuns) -> None:
    folder, solved = trained(method="fedavg", multilabel=True, **START), trained(method="fedridge", multilabel=True)
    expected = load_file(solved / "generic.safetensors")["aux_head.weight"]
    assert head_of(folder)["weight"].tobytes() == expected.tobytes()
    with pytest.raises(UserError, match="head-start = 'ncm': it takes one label an image; choose ridge"):
        run_local(tiny_for("fedavg", multilabel=True, head_start="ncm"))


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"method": "fedridge"}, "'fedridge' solves its head itself"),
        ({"method": "fedetf"}, "'fedetf' has no head that starts at random"),
        ({"method": "fednca_ml"}, "'fednca_ml' has no head that starts at random"),
        ({"method": "fedavg", "attention": True}, "attention has to learn"),
    ],
)
def test_a_start_that_nothing_starts_from_is_a_mistake(tiny: Tiny, keys: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        tiny(head_start="ridge", **keys)


def test_a_random_backbone_is_warned_of(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    run_local(tiny(method="fedavg", rounds=1, head_start="ncm"))
    assert capsys.readouterr().out.count("the backbone has no weights") == 1


def test_without_enough_sums_the_run_ends_and_says_why(
    tiny: Tiny, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def huge(*args: Any) -> Any:
        return ((1000 * features, labels) for features, labels in feature_batches(*args))

    monkeypatch.setattr("client_app.methods.fed3r.feature_batches", huge)
    with pytest.raises(WireError, match="head-start = ridge: 0 of 3 sites sent their sums of features"):
        run_local(tiny(method="fedavg", head_start="ridge", round_retries=0))
    assert "is beyond feature-range 64: choose a larger one" in capsys.readouterr().out
