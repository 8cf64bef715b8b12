"""What was made fast gives what the plain way gives: bit for bit on a CPU."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file

import client_app.app as site_code
import client_app.models as models
from common import wire
from common.config import Experiment, build
from common.data import build_federation, resident
from common.methods import METHODS
from common.packing import packed, unpacked
from server_app import aggregation
from server_app.aggregation import RunningMean
from server_app.engines import run_local

Tiny = Callable[..., Experiment]
DTYPES = st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_])
ARRAYS = DTYPES.flatmap(lambda d: arrays(d, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))


def assert_equal_runs(one: Path, other: Path) -> None:
    names = sorted(path.relative_to(one) for path in one.rglob("*.safetensors"))
    assert names and names == sorted(path.relative_to(other) for path in other.rglob("*.safetensors"))
    for name in names:
        ours, theirs = load_file(one / name), load_file(other / name)
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=f"{name}: {key}")
    first, second = (json.loads((folder / "summary.json").read_text()) for folder in (one, other))
    assert [first[key] for key in ("generic", "personal")] == [second[key] for key in ("generic", "personal")]


@pytest.mark.parametrize("method", ["fedavg", "fedloge", "fedetf", "fedbn", "ditto", "fedloge_ml"])
def test_a_model_loaded_in_place_is_the_one_built_anew(
    tiny_for: Tiny, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert method in METHODS
    built: list[str] = []
    real = models.build_model
    monkeypatch.setattr(models, "build_model", lambda *a, **k: built.append(k["site"]) or real(*a, **k))
    fast = run_local(tiny_for(method, finetune_epochs=1, run_name="fast"))
    in_place = len(built)
    monkeypatch.setattr(models, "_KEPT", 0)
    models.forget_models()
    plain = run_local(tiny_for(method, finetune_epochs=1, run_name="plain"))
    assert len(built) - in_place == 9  # three sites, two rounds and the end
    assert in_place < 9 or method == "fedetf"  # which makes its personal head anew each time
    assert_equal_runs(fast, plain)


def test_sites_that_share_a_model_start_from_heads_of_their_own(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real = site_code.train_site

    def watching(model: Any, *args: Any, **more: Any) -> dict[str, float]:
        seen.append(model.personal_head.weight.detach().clone())
        return real(model, *args, **more)

    monkeypatch.setattr(site_code, "train_site", watching)
    run_local(tiny(method="fedloge", rounds=1))
    assert len(seen) == 3 and not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_no_more_models_are_kept_than_allowed(tiny: Tiny) -> None:
    for seed in range(4):
        run_local(tiny(method="fedavg", rounds=1, seed=seed, run_name=f"run{seed}"))
    assert len(models._models) == models._KEPT


def test_pixels_on_the_device_are_the_pixels_sent(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    images, rows = build_federation(tiny()).dataset.train, np.array([3, 1, 2, 1])
    assert resident.batch_for(images, rows, torch.device("cpu")) is not None and images not in resident._held
    monkeypatch.setattr(resident, "_NEAR", ())  # as if the CPU were a device far away
    assert torch.equal(resident.batch_for(images, rows, torch.device("cpu")), images.batch(rows))
    assert images in resident._held
    run_local(tiny(augment="crop-flip", rounds=1))  # and it can be trained on


def test_pixels_that_are_too_many_are_sent(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_NEAR", ())
    monkeypatch.setattr(resident, "_LARGEST", 10)
    monkeypatch.setattr(resident, "_held", {})
    run_local(tiny(method="fedavg", rounds=1))
    assert not resident._held


@given(array=ARRAYS)
def test_packing_gives_flowers_bytes_and_unpacking_its_array(array: np.ndarray) -> None:
    ours, flowers = packed(array), Array(array)
    assert (ours.data, ours.dtype, ours.shape, ours.stype) == (
        flowers.data,
        flowers.dtype,
        flowers.shape,
        flowers.stype,
    )
    back, plain = unpacked(ours), flowers.numpy()
    assert back.dtype == plain.dtype and back.shape == plain.shape and back.tobytes() == plain.tobytes()


def test_unpacking_takes_other_orders_and_versions_and_no_objects() -> None:
    by_columns = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert np.array_equal(unpacked(Array(by_columns)), by_columns)
    assert not unpacked(Array(by_columns)).flags.writeable
    good = Array(np.zeros(3))
    cut = Array(good.dtype, good.shape, good.stype, good.data[:-8])
    objects = Array("object", (1,), good.stype, good.data.replace(b"'<f8'", b"'|O' ", 1))
    for bad in (cut, objects):
        with pytest.raises(ValueError):
            unpacked(bad)
    with pytest.raises((TypeError, ValueError)):
        packed(np.array([object()]))


@given(values=arrays(np.float32, (3, 5), elements=st.floats(-1e6, 1e6, width=32)), weight=st.integers(1, 10**6))
def test_the_mean_in_blocks_is_the_plain_one(values: np.ndarray, weight: int) -> None:
    counts = np.arange(7)
    found = []
    for block in (4, 1 << 15):
        aggregation._BLOCK, before = block, aggregation._BLOCK
        mean = RunningMean({"w": values, "n": counts})
        aggregation._BLOCK = before
        mean.add({"w": values, "n": counts}, weight)
        mean.add({"w": values[::-1], "n": counts[::-1]}, 3)
        found.append(mean.mean())
    plain = (weight * values.astype(np.float64) + 3 * values[::-1].astype(np.float64)) / (weight + 3)
    for mean_found in found:
        assert np.array_equal(mean_found["w"], plain.astype(np.float32))  # bit for bit, but for the sign of zero
        whole = np.rint((weight * counts + 3 * counts[::-1]) / (weight + 3))
        assert mean_found["n"].dtype == np.int64 and np.array_equal(mean_found["n"], whole)


def test_an_experiment_crosses_whole_though_defaults_are_left_out(tiny: Tiny) -> None:
    for experiment in (build({}), tiny(method="fedavg", seed=3), build({"classes": ["a", "b"], "sparsity": 0.5})):
        text = wire.experiment_json(experiment)
        assert build(json.loads(text)) == experiment
        assert len(text) < 600 < len(json.dumps(experiment.dump()))
