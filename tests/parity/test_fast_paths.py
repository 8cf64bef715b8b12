"""What was made fast gives what the plain way gives: bit for bit on a CPU."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file

import client_app.app as site_code
import client_app.training.loop as training
import client_app.training.model_cache as models
from client_app.site.site import simulated_site
from common import wire
from common.config import Experiment, build
from common.data import build_federation
from common.data.images import resident
from common.data.images.source import ArrayImages
from common.methods import METHODS
from common.packing import packed, unpacked
from server_app.aggregation import mean as aggregation
from server_app.aggregation.mean import RunningMean
from server_app.app import run
from server_app.engines.engines import load_client_app, run_local
from server_app.grids.local_grid import LocalGrid

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
    models.clear_models()
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


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU be a device far away, to which pixels are sent once."""
    monkeypatch.setattr(resident, "_HOST_DEVICES", ())


def test_pixels_on_the_device_are_the_pixels_sent(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_held", WeakKeyDictionary())  # what other tests have sent
    images, rows, cpu = build_federation(tiny()).dataset.train, np.array([3, 1, 2, 1]), torch.device("cpu")
    assert torch.equal(resident.BatchSlices(images, rows, cpu).pixels(slice(1, 4)), images.batch(rows[1:]))
    assert images not in resident._held
    monkeypatch.setattr(resident, "_HOST_DEVICES", ())
    batch_slices = resident.BatchSlices(images, rows, cpu)
    assert images in resident._held
    for part in (slice(0, 2), slice(2, 9)):
        assert torch.equal(batch_slices.pixels(part), images.batch(rows[part]))
        assert torch.equal(batch_slices.labels[part], torch.from_numpy(images.labels[rows[part]]))


@pytest.mark.parametrize("near", [True, False])
def test_pixels_of_one_channel_lie_in_one_way(near: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are stored: convolutions choose an algorithm by strides, and round as it does."""
    monkeypatch.setattr(resident, "_HOST_DEVICES", ("cpu",) if near else ())
    monkeypatch.setattr(resident, "_held", WeakKeyDictionary())
    grey = np.arange(9 * 5 * 5, dtype=np.uint8).reshape(9, 5, 5)
    labels, rows = np.zeros(9, np.int64), np.array([3, 1])
    for pixels in (grey[:, None], grey[..., None].transpose(0, 3, 1, 2)):
        taken = resident.BatchSlices(ArrayImages(pixels, labels), rows, torch.device("cpu")).pixels(slice(0, 2))
        assert taken.stride() == (25, 25, 5, 1) and np.array_equal(taken[:, 0].numpy(), grey[rows])


@pytest.mark.parametrize("method", ["fedloge", "fedloge_ml"])
def test_a_run_on_resident_pixels_is_the_plain_one(tiny_for: Tiny, method: str, request: pytest.FixtureRequest) -> None:
    plain = run_local(tiny_for(method, augment="crop-flip", finetune_epochs=1, run_name="plain"))
    request.getfixturevalue("far")
    fast = run_local(tiny_for(method, augment="crop-flip", finetune_epochs=1, run_name="fast"))
    assert_equal_runs(fast, plain)


@pytest.mark.usefixtures("far")
def test_an_epoch_sends_what_it_needs_at_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU each tensor sent waits for all work before: there must be as many whatever the number of batches."""
    experiment = tiny(method="fedavg", augment="crop-flip")
    sent: list[int] = []
    real = torch.Tensor.to

    def counted(tensor: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
        sent.append(1)
        return real(tensor, *args, **more)

    monkeypatch.setattr(torch.Tensor, "to", counted)
    found = []
    for size in (4, 16):
        site = replace(simulated_site(experiment.replace(batch_size=size), 0), train_rows=np.arange(32))
        model, device = torch.nn.Linear(1, 1), torch.device("cpu")
        rngs = np.random.default_rng(0), torch.Generator().manual_seed(0), np.random.default_rng(0)
        list(training._epoch(model, None, site, rngs, device))  # the first time sends pixels, scales
        sent.clear()
        batches = len(list(training._epoch(model, None, site, rngs, device)))
        found.append(len(sent) - batches)  # `prepare` is asked each time for where the batch is already
    assert found[0] == found[1] == 4  # flips, shifts, labels, row numbers


@pytest.mark.parametrize("method", ["fedloge", "creff", "ditto"])
def test_sites_that_work_ahead_give_the_same_run(tiny: Tiny, method: str) -> None:
    """As on a GPU: the next site trains while the coordinator adds up."""
    runs = []
    for ahead in (False, True):
        experiment = tiny(method=method, finetune_epochs=1, run_name=f"ahead-{ahead}")
        runs.append(run(LocalGrid(load_client_app(), experiment.sites.sites, ahead=ahead), experiment))
    assert_equal_runs(*runs)


def test_pixels_that_are_too_many_are_sent(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_HOST_DEVICES", ())
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
