"""`wire: half`: weights cross in float16, both ways, and all sums and models stay in single precision."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Message
from safetensors.numpy import load_file
from trained_runs import TrainedRuns

import client_app.app as site_code
from common.config import Experiment, build
from common.data import build_federation
from common.errors import UserError
from common.methods import METHODS
from common.models.model import build_model, shared_state
from common.models.trained import load_trained
from common.precision import from_wire_precision, to_wire_precision
from server_app.engines.engines import run_local
from server_app.grids.local_grid import LocalGrid
from server_app.run.checkpoint import load_checkpoint
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
HALF = build({"wire": "half"})


def test_floats_cross_in_half_precision_and_integers_as_they_are(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[str]] = {"down": set(), "up": set()}
    answer = LocalGrid._answer

    def look(grid: LocalGrid, message: Message) -> Message:
        reply = answer(grid, message)
        for way, one in (("down", message), ("up", reply)):
            model = one.content.array_records.get("model", {})
            seen[way] |= {f"{name.rsplit('.', 1)[-1]} {array.dtype}" for name, array in model.items()}
        return reply

    monkeypatch.setattr(LocalGrid, "_answer", look)
    folder = run_local(tiny(wire="half", rounds=2))
    floats = {f"{name} float16" for name in ("weight", "bias", "running_mean", "running_var")}
    assert seen["down"] == seen["up"] == floats | {"num_batches_tracked int64"}
    assert {array.dtype.name for array in load_file(folder / "generic.safetensors").values()} <= {"float32", "int64"}


def test_sites_that_change_nothing_give_back_what_they_got_rounded(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_code, "train_site", lambda *_: {"backbone": 0.0})
    first, second = (run_local(tiny(method="fedavg", wire="half", rounds=n, run_name=f"r{n}")) for n in (1, 3))
    experiment = tiny(method="fedavg")
    dataset = build_federation(experiment).dataset
    begin = shared_state(build_model(experiment, 1, len(dataset.classes)), METHODS["fedavg"])
    for folder in (first, second):
        found = load_file(folder / "generic.safetensors")
        for name, array in begin.items():
            expected = array.astype(np.float16).astype(np.float32) if array.dtype == np.float32 else array
            np.testing.assert_array_equal(found[name], expected)


def test_the_mean_is_not_rounded(trained: TrainedRuns) -> None:
    """What the coordinator keeps has more digits than half precision: else small steps would be lost for good."""
    checkpoint = load_checkpoint(trained(wire="half", rounds=2))
    assert checkpoint is not None
    weight = checkpoint.arrays["aux_head.weight"]
    assert (weight.astype(np.float16).astype(np.float32) != weight).mean() > 0.5


def test_an_array_in_single_precision_is_refused() -> None:
    arrays = {"weight": np.ones(3, np.float32), "steps": np.ones((), np.int64)}
    with pytest.raises(ValueError, match="weight is float32 where wire = 'half' needs float16"):
        from_wire_precision(arrays, HALF)
    back = from_wire_precision(to_wire_precision(arrays, HALF), HALF)
    assert {name: array.dtype.name for name, array in back.items()} == {"weight": "float32", "steps": "int64"}
    with pytest.raises(UserError, match="x: a value beyond 65504 cannot cross with wire = 'half': use single"):
        to_wire_precision({"x": np.array([1e6], np.float32)}, HALF)
    counts = {"class_weights": np.array([2049, 1e6], np.float32)}  # exact, both ways
    assert from_wire_precision(to_wire_precision(counts, HALF), HALF)["class_weights"].tolist() == [2049, 1e6]


@pytest.mark.parametrize("method", ["fedloge", "fedavg_la_global"])
def test_a_personal_model_fits_the_generic_one(trained: TrainedRuns, method: str) -> None:
    """Both are what the sites had at the end: the rounded weights."""
    folder = trained(method=method, wire="half", rounds=1)
    for personal in folder.glob("sites/*/personal_model.safetensors"):
        load_trained(folder / "generic.safetensors", personal=personal)
    generic = load_file(folder / "generic.safetensors")["backbone.stage1.0.weight"]
    np.testing.assert_array_equal(generic, generic.astype(np.float16).astype(np.float32))


def test_a_run_learns_as_in_single_precision(trained: TrainedRuns) -> None:
    losses = {}
    for precision in ("single", "half"):
        folder = trained(wire=precision, rounds=4)
        losses[precision] = [e["loss"]["backbone"] for e in read_events(folder) if e["event"] == "round"]
    assert losses["half"] != losses["single"]
    np.testing.assert_allclose(losses["half"], losses["single"], rtol=0.02)
