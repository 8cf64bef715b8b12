"""Whole runs with the in-process engine on real images."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from safetensors.numpy import load_file
from trained_runs import TrainedRuns

from common import wire
from common.config import APP_ROOT, Experiment, load
from common.data import build_federation
from common.metrics import groups
from common.models.features import extract_features
from common.models.model import build_model, load_state
from server_app.engines.engines import run_local
from server_app.frames.build import build_frame
from server_app.generic.evaluation import GenericEvaluation
from server_app.grids import local_grid
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    """Return all arrays that a run left: the generic model and every personal one."""
    found = {}
    for path in sorted(folder.rglob("*.safetensors")):
        if "checkpoints" not in path.parts:
            found |= {f"{path.relative_to(folder)}:{k}": v for k, v in load_file(path).items()}
    return found


def test_the_runs_folder_is_complete(trained: TrainedRuns) -> None:
    folder = trained(finetune_epochs=1, checkpoint_every=1)
    for name in ("config", "versions", "frame", "federation", "summary"):
        assert json.loads((folder / f"{name}.json").read_text())
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == [
        "round-00001.safetensors",
        "round-00002.safetensors",
    ]
    generic = load_file(folder / "generic.safetensors")
    assert {"frame.weight", "aux_head.weight", "aux_head_realigned.weight"} <= generic.keys()
    for site in ("site-00", "site-01", "site-02"):
        assert load_file(folder / "sites" / site / "personal_model.safetensors")["head.weight"].shape == (
            10,
            16,
        )
    kinds = {(e["event"], e.get("stage")) for e in read_events(folder)}
    assert {("personal", s) for s in ("arrival", "final", "realigned", "finetuned")} <= kinds
    assert {("generic", "training"), ("generic", "final"), ("norms", None), ("summary", None)} <= kinds


def test_the_frame_is_bit_identical_after_a_run(tiny: Tiny, trained: TrainedRuns) -> None:
    folder = trained()
    built, _ = build_frame(tiny(), num_classes=10, dim=16)
    kept = [load_file(folder / "generic.safetensors")["frame.weight"]]
    kept += [load_file(p)["frame"] for p in folder.glob("sites/*/frame.safetensors")]
    assert len(kept) == 4
    for frame in kept:
        assert frame.tobytes() == built.numpy().tobytes()


@pytest.mark.parametrize("method", ["fedavg", "fedloge"])
def test_the_same_seed_gives_the_same_models_and_another_seed_others(tiny: Tiny, method: str) -> None:
    first = arrays_of(run_local(tiny(method=method, run_name="a", augment="crop-flip")))
    again = arrays_of(run_local(tiny(method=method, run_name="b", augment="crop-flip")))
    other = arrays_of(run_local(tiny(method=method, run_name="c", augment="crop-flip", seed=1)))
    assert first.keys() == again.keys()
    for name, array in first.items():
        assert array.tobytes() == again[name].tobytes(), name
    assert any(array.tobytes() != other[name].tobytes() for name, array in first.items())


def test_empty_and_tiny_sites_take_part(tiny: Tiny) -> None:
    # many more sites than a strongly skewed partition can fill
    experiment = tiny(sites=40, dirichlet=0.05, min_site_size=0, head_class_size=12, rounds=1, finetune_epochs=1)
    folder = run_local(experiment)
    counts = np.array(json.loads((folder / "federation.json").read_text())["train_counts"]).sum(axis=1)
    assert (counts == 0).any() and (counts == 1).any()
    events = read_events(folder)
    assert [e["answered"] for e in events if e["event"] == "round"] == [40]
    assert not [e for e in events if e["event"] == "rejected"]
    assert all(np.isfinite(a).all() for a in arrays_of(folder).values())


def test_only_sampled_sites_are_asked(tiny: Tiny) -> None:
    folder = run_local(tiny(participation=0.4, sites=5, rounds=3))
    events = read_events(folder)
    assert [e["asked"] for e in events if e["event"] == "round"] == [2, 2, 2]
    final = next(e for e in events if e["event"] == "personal" and e["stage"] == "final")
    assert len(final["sites"]) == 5  # everybody gets a personal model


def test_the_frame_travels_once(trained: TrainedRuns) -> None:
    down = [e["bytes_down"] for e in read_events(trained(rounds=3)) if e["event"] == "round"]
    frame_bytes = 3 * (10 * 16 * 4 + 128)  # float32 and NumPy's header, at three sites
    assert down[0] - down[1] == frame_bytes
    assert down[1] == down[2]


def test_a_failing_site_is_left_out_and_named(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    import client_app.app as site_code

    real = site_code.train_site

    def fails_at_one(*args: Any, **kwargs: Any) -> dict[str, float]:
        if args[2].name == "site-01":
            raise RuntimeError("scanner on fire")
        return real(*args, **kwargs)

    monkeypatch.setattr(site_code, "train_site", fails_at_one)
    events = read_events(run_local(tiny()))
    rejected = [e for e in events if e["event"] == "rejected"]
    assert [(e["round"], e["site"]) for e in rejected] == [(1, "site-01"), (2, "site-01")]
    assert "scanner on fire" in rejected[0]["reason"]
    assert [e["answered"] for e in events if e["event"] == "round"] == [2, 2]


def test_a_run_ends_when_no_site_can_train(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    import client_app.app as site_code

    monkeypatch.setattr(site_code, "train_site", lambda *args: 1 / 0)
    with pytest.raises(wire.WireError, match="round 1: 0 of 3 replies"):
        run_local(tiny())


def test_natural_sites_take_their_names_and_test_images_from_the_data(tiny: Tiny) -> None:
    archive = APP_ROOT.parent / "shared" / "data" / "ham10000" / "ham10000.npz"
    if not archive.is_file():
        pytest.skip(f"no HAM10000 archive at {archive}")
    experiment = load(
        "configs/ham10000_sites.yaml",
        {"data-dir": str(archive), "rounds": 1, "local-epochs": 1, "width": 4, "batch-size": 128, "run-name": "ham"}
        | {"output-dir": str(tiny().run.output_dir)},
    )
    final = next(e for e in read_events(run_local(experiment)) if e["event"] == "personal" and e["stage"] == "final")
    images = {name: site["num_test"] for name, site in final["sites"].items()}
    assert images == {"rosendahl": 476, "vidir_modern": 623, "vidir_molemax": 799, "vienna_dias": 93}


def test_what_is_saved_can_be_loaded_and_gives_the_reported_figures(tiny: Tiny, trained: TrainedRuns) -> None:
    experiment = tiny(checkpoint_every=2)
    folder = trained(checkpoint_every=2)
    federation = build_federation(experiment)
    saved = load_file(folder / "generic.safetensors")
    shared = {k: v for k, v in saved.items() if k.startswith("backbone.")} | {
        "aux_head.weight": saved["aux_head.weight"]
    }
    checkpoint = load_file(folder / "checkpoints" / "round-00002.safetensors")
    assert checkpoint.keys() == {f"model/{name}" for name in shared} | {f"trained/site-0{site}" for site in range(3)}
    assert all(np.array_equal(checkpoint[f"model/{name}"], array) for name, array in shared.items())
    evaluation = GenericEvaluation(
        experiment, federation.dataset, groups(federation.class_counts), torch.from_numpy(saved["frame.weight"])
    )
    reports = evaluation(shared)
    for event in read_events(folder):
        if event["event"] == "generic" and event["stage"] == "final":
            assert event["accuracy"] == reports[event["head"]].accuracy

    model = build_model(experiment, 1, 10)
    load_state(model, shared)
    final = next(e for e in read_events(folder) if e["event"] == "personal" and e["stage"] == "realigned")
    for name, rows in zip(federation.site_names, federation.test_rows, strict=True):
        head = load_file(folder / "sites" / name / "personal_model.safetensors")["head.weight"]
        features, labels = extract_features(model, federation.dataset.test, rows, federation.dataset)
        right = int(((features @ torch.from_numpy(head).T).argmax(dim=1) == labels).sum())
        assert final["sites"][name]["accuracy"] == right / len(rows)


def lose_the_frame(monkeypatch: pytest.MonkeyPatch, when: Callable[[wire.Request], bool]) -> None:
    """Remove the first site's cached frame before it reads a request that `when` is true of."""
    real = wire.Request

    def reading(message: Message) -> wire.Request:
        request = real(message)
        if request.sites_dir and when(request):
            (request.sites_dir / "site-00" / "frame.safetensors").unlink(missing_ok=True)
        return request

    monkeypatch.setattr(wire, "Request", reading)


def test_a_lost_frame_is_sent_again_the_next_round(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_the_frame(monkeypatch, lambda request: request.round == 2 and bool(request.frame_hash))
    events = read_events(run_local(tiny(rounds=3)))
    rejected = [(e["round"], e["site"]) for e in events if e["event"] == "rejected"]
    assert rejected == [(2, "site-00")]
    assert [e["answered"] for e in events if e["event"] == "round"] == [3, 2, 3]


def test_personalising_needs_no_frame(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_the_frame(monkeypatch, lambda request: not request.frame_hash)
    events = read_events(run_local(tiny()))
    assert not [e for e in events if e["event"] == "rejected"]
    assert len(next(e for e in events if e["event"] == "personal" and e["stage"] == "realigned")["sites"]) == 3


def test_sites_that_do_not_answer_in_time_are_named(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    import client_app.app as site_code

    real, late = site_code.train_site, 0

    def slow(*args: Any) -> dict[str, float]:
        nonlocal late
        late += 601 * (args[2].name == "site-01")  # seconds go by; a busy machine alone makes nobody so late
        return real(*args)

    monkeypatch.setattr(site_code, "train_site", slow)
    monkeypatch.setattr(local_grid, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + late))
    events = read_events(run_local(tiny(round_timeout=600, rounds=1)))
    rejected = [(e["site"], e["reason"]) for e in events if e["event"] == "rejected"]
    assert rejected == [("site-01", "no answer within 600 s")]
