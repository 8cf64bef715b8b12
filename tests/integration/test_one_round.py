"""Heads in closed form, as whole runs: the same bits however the images are spread, and nothing trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.linear_model import Ridge
from trained_runs import TrainedRuns

from common.config import Experiment
from common.data import build_federation
from common.errors import WireError
from common.models.features import extract_features, feature_batches
from common.models.model import build_model
from server_app.engines.engines import run_local
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
ROUND: dict[str, Any] = {"method": "fedridge", "rounds": 1}


def head_of(folder: Path) -> dict[str, Any]:
    return {name: array for name, array in load_file(folder / "generic.safetensors").items() if "aux_head" in name}


@pytest.mark.parametrize("several", [False, True])
def test_the_generic_head_is_the_same_for_any_partition(tiny_for: Tiny, trained: TrainedRuns, several: bool) -> None:
    expected = head_of(trained(**ROUND, multilabel=several))
    for spread in ({"sites": 7}, {"sites": 2, "dirichlet": 0.1}, {"partition": "iid"}):
        found = head_of(run_local(tiny_for(**ROUND, multilabel=several, run_name=None, **spread)))
        assert {name: array.tobytes() for name, array in found.items()} == {
            name: array.tobytes() for name, array in expected.items()
        }


def test_the_head_is_scikit_learns_on_all_images(tiny: Tiny) -> None:
    experiment = tiny(**ROUND, ridge_lambda=3)
    head = head_of(run_local(experiment))
    federation = build_federation(experiment)
    dataset, rows = federation.dataset, np.concatenate(federation.train_rows)
    model = build_model(experiment, 1, 10)
    features, labels = extract_features(model.backbone, dataset.train, rows, dataset)
    counts = np.bincount(labels, minlength=10)
    weights = len(rows) / (10 * counts)
    step = 64 * 2.0**-21
    rounded = np.round(features.double().numpy() / step) * step
    pooled = Ridge(alpha=3, solver="cholesky").fit(rounded, np.eye(10)[labels], sample_weight=weights[labels])
    assert np.abs(head["aux_head.weight"] - pooled.coef_).max() < 1e-6  # in single precision
    assert np.abs(head["aux_head.bias"] - pooled.intercept_).max() < 1e-6


def test_a_second_round_asks_again_and_changes_nothing(tiny: Tiny, trained: TrainedRuns) -> None:
    once, twice = trained(**ROUND), trained(**ROUND | {"rounds": 2})
    assert {n: a.tobytes() for n, a in head_of(once).items()} == {n: a.tobytes() for n, a in head_of(twice).items()}
    first, second = (e for e in read_events(twice) if e["event"] == "round")
    assert second["bytes_up"] < first["bytes_up"] / 100


def test_sites_that_were_not_asked_come_in_with_a_later_round(tiny: Tiny, trained: TrainedRuns) -> None:
    folder = run_local(tiny(**ROUND | {"rounds": 6}, participation=0.34, run_name=None))
    solved = [e["sites"] for e in read_events(folder) if e["event"] == "method"]
    assert solved == [1, 2, 3]
    whole, found = head_of(trained(**ROUND)), head_of(folder)
    assert all(np.array_equal(whole[name], found[name]) for name in whole)


def test_the_journal_says_what_the_head_was_solved_of(trained: TrainedRuns) -> None:
    (facts,) = [e for e in read_events(trained(**ROUND)) if e["event"] == "method"]
    assert facts["sites"] == 3 and len(facts["images"]) == 10 and len(facts["sums_sha256"]) == 64
    assert facts["ridge_lambda"][0] > 0


def test_a_feature_beyond_the_range_is_named(
    tiny: Tiny, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def huge(*args: Any) -> Any:
        return ((1000 * features, labels) for features, labels in feature_batches(*args))

    monkeypatch.setattr("client_app.methods.fed3r.feature_batches", huge)
    with pytest.raises(WireError, match="replies could be used"):
        run_local(tiny(**ROUND, round_retries=0))
    assert "is beyond feature-range 64: choose a larger one" in capsys.readouterr().out


def test_personal_heads_are_kept_at_their_sites(trained: TrainedRuns) -> None:
    folder = trained(**ROUND)
    heads = [load_file(folder / "sites" / f"site-0{k}" / "personal_model.safetensors") for k in range(3)]
    generic = head_of(folder)["aux_head.weight"]
    assert all(head.keys() == {"head.weight", "head.bias"} for head in heads)
    assert all(not np.array_equal(head["head.weight"], generic) for head in heads)
