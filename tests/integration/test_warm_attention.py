"""A run with label-aware attention that starts from an earlier one: what it takes over, and what begins anew."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from trained_runs import TrainedRuns

from common.config import Experiment
from common.errors import UserError
from common.files import facts_of
from common.models.model import build_model
from common.models.weights import Loaded, load_weights, pin_weights
from server_app.engines.engines import run_local
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
PROJECTIONS = tuple(
    f"backbone.ladm.attention.{name}" for name in ("in_proj_bias", "in_proj_weight", "out_proj.bias", "out_proj.weight")
)
ATTENTIVE: dict[str, Any] = {"method": "fedavg", "multilabel": True, "attention": True, "rounds": 1}


def warmed(
    experiment: Experiment, classes: int = 10
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Loaded]:
    """Return a model's state as it is drawn, as an earlier run's weights leave it, and what became of them."""
    model = build_model(experiment, 1, classes, torch.eye(classes, 16))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loaded = load_weights(model.backbone, pin_weights(experiment))
    return before, dict(model.state_dict()), loaded


@pytest.mark.parametrize("classes", [10, 4])
def test_projections_are_taken_and_what_depends_on_classes_is_not(
    tiny_for: Tiny, trained: TrainedRuns, classes: int
) -> None:
    first = trained(**ATTENTIVE)
    theirs = load_file(first / "generic.safetensors")
    before, after, loaded = warmed(tiny_for(weights=f"run:{first}", **ATTENTIVE), classes)
    assert loaded.attention == PROJECTIONS and not loaded.anew
    for name, value in after.items():
        wanted = theirs[name] if name.startswith("backbone.") else before[name]
        assert torch.equal(value, wanted), name
    assert not torch.equal(before[PROJECTIONS[1]], after[PROJECTIONS[1]])
    assert {"query.weight", "aux_head.weight"} <= {*loaded.unused}
    assert {*loaded.unused} == {name for name in theirs if not name.startswith("backbone.")}


def test_a_run_of_other_classes_goes_on_from_there_and_says_what_it_took(
    tiny: Tiny, trained: TrainedRuns, tmp_path: Path
) -> None:
    first = trained(**ATTENTIVE)
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 255, (48, 8, 8), np.uint8), np.eye(4, dtype=np.uint8)[np.arange(48) % 4]
    np.savez(tmp_path / "other.npz", x_train=pixels, y_train=labels, x_test=pixels[:24], y_test=labels[:24])
    data = {"dataset": "npz", "data_dir": tmp_path / "other.npz", "head_class_size": None}
    keys = data | {"method": "fedavg", "attention": True, "head_bias": True, "rounds": 1, "imbalance_factor": 1}
    folder = run_local(tiny(weights=f"run:{first}", run_name="second", **keys))
    event = next(e for e in read_events(folder) if e["event"] == "weights")
    assert tuple(event["attention"]) == PROJECTIONS and "query.weight" in event["unused"]
    assert load_file(folder / "generic.safetensors")["query.weight"].shape[0] == 4


@pytest.mark.parametrize(
    ("earlier", "now", "why"),
    [
        ({"attention": False}, {}, "that run has none"),
        ({"attention_heads": 2}, {}, "that run's has 2 heads over 16 features, this one's 4 over 16"),
    ],
)
def test_attention_of_another_form_begins_anew(
    tiny_for: Tiny, trained: TrainedRuns, earlier: dict[str, Any], now: dict[str, Any], why: str
) -> None:
    first = trained(**(ATTENTIVE | earlier))
    theirs = load_file(first / "generic.safetensors")
    before, after, loaded = warmed(tiny_for(weights=f"run:{first}", **(ATTENTIVE | now)))
    assert loaded.anew == why and loaded.attention == ()
    assert all(torch.equal(after[name], before[name]) for name in PROJECTIONS)
    assert all(name in loaded.unused for name in PROJECTIONS if name in theirs)
    assert loaded.arrays == sum(name.startswith("backbone.body.") for name in after)


def test_a_run_without_attention_names_what_it_has_no_use_for(tiny_for: Tiny, trained: TrainedRuns) -> None:
    first = trained(**ATTENTIVE)
    _, _, loaded = warmed(tiny_for(weights=f"run:{first}", **(ATTENTIVE | {"attention": False})))
    assert {*PROJECTIONS} <= {*loaded.unused} and loaded.attention == () and loaded.anew == ""


def test_damaged_projections_are_named(tiny_for: Tiny, trained: TrainedRuns, tmp_path: Path) -> None:
    path = trained(**ATTENTIVE) / "generic.safetensors"
    arrays = load_file(path)
    arrays[PROJECTIONS[1]][0] = float("nan")
    save_file(arrays, tmp_path / "generic.safetensors", facts_of(path))
    with pytest.raises(UserError, match=r"not finite: attention\.in_proj_weight$"):
        warmed(tiny_for(weights=f"run:{tmp_path}", **ATTENTIVE))
