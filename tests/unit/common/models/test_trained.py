"""Finished models read back: every option that changes what is in the files, and files that are no such model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from trained_runs import TrainedRuns

from common.config import Experiment
from common.data import build_federation
from common.files import arrays_digest, read_arrays, save_arrays
from common.models.description import Description
from common.models.trained import PERSONAL, TrainedModel, load_trained
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
ErrorOf = Callable[[Callable[[], object]], str]


@pytest.fixture
def run(trained: TrainedRuns) -> Path:
    return trained(rounds=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "fedloge", "head_bias": True, "frame_projection": True},
        {"method": "fedloge", "mask_classes": "train", "dirichlet": 0.1},
        {"method": "ditto", "mask_classes": "train", "backbone": "resnet8"},
    ],
    ids=str,
)
def test_options_of_one_label_give_the_reported_hits(tiny: Tiny, trained: TrainedRuns, changes: dict[str, Any]) -> None:
    experiment = tiny(**changes)
    folder, federation = trained(**changes), build_federation(experiment)
    last = [e for e in read_events(folder) if e["event"] == "personal"][-1]["sites"]
    for name, rows in zip(federation.site_names, federation.test_rows, strict=True):
        model = load_trained(folder, folder / "sites" / name / PERSONAL)
        with torch.no_grad():
            answers = model(federation.dataset.test.batch(rows)).numpy()
        assert last[name]["accuracy"] == (answers.argmax(axis=1) == federation.dataset.test.labels[rows]).mean()
        if "mask_classes" in changes:
            present = np.array(model.about.present)
            assert (answers[:, ~present] == 0).all() and (answers[:, present] > 0).any()


@pytest.mark.parametrize(
    ("method", "changes"),
    [("fedavg", {"attention": True}), ("fedper", {"attention": True}), ("fednca_ml", {"frame_trains": True})],
)
def test_attention_finds_its_query_in_the_file(trained: TrainedRuns, method: str, changes: dict[str, Any]) -> None:
    folder = trained(method=method, multilabel=True, rounds=1, **changes)
    model = load_trained(folder, folder / "sites" / "site-00" / PERSONAL)
    frame = load_file(folder / "frame.safetensors")["frame"]
    assert np.array_equal(model.backbone.get_buffer("frame").numpy(), frame)
    assert model(torch.zeros(2, 1, 12, 12, dtype=torch.uint8)).shape == (2, 10)


def test_a_saved_model_stands_alone(run: Path, tmp_path: Path) -> None:
    model, images = load_trained(run), torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    model.save(tmp_path / "model.safetensors", model.experiment.dump())
    again = load_trained(tmp_path / "model.safetensors")
    assert again.head_name == "aux_head_realigned" and again.about.classes == model.about.classes
    assert torch.equal(again(images), model(images))
    own = run / "sites" / "site-00" / PERSONAL  # a personal model goes on it as well: the backbone is the same
    assert torch.equal(load_trained(tmp_path / "model.safetensors", own)(images), load_trained(run, own)(images))


def test_thresholds_are_a_half_unless_tuned() -> None:
    about = {"classes": ("a", "b"), "multilabel": True, "channels": 1, "size": (4, 4), "mean": (0.5,), "std": (0.1,)}
    for tuned, expected in (({}, [0.5, 0.5]), ({"frame": (0.2, 0.7)}, [0.2, 0.7])):
        description = Description(**about, method="fednca_ml", rounds=1, thresholds=tuned)
        model = TrainedModel(description, Experiment(), torch.nn.Flatten(), torch.nn.Linear(16, 2), "frame")
        assert model.thresholds.tolist() == expected
        assert description.interpolation == "bicubic"  # of a file that does not say


def test_a_personal_model_refuses_the_generic_model_of_another_run(
    run: Path, trained: TrainedRuns, error_of: ErrorOf
) -> None:
    other = trained(rounds=1, seed=1)
    message = error_of(lambda: load_trained(other, run / "sites" / "site-00" / PERSONAL))
    assert "belongs on the generic model of another run" in message


def test_a_personal_model_alone_says_what_it_needs(run: Path, error_of: ErrorOf) -> None:
    message = error_of(lambda: load_trained(run / "sites" / "site-00" / PERSONAL))
    assert "give the run's generic model" in message


def test_damaged_and_foreign_files_are_named(run: Path, tmp_path: Path, error_of: ErrorOf) -> None:
    whole, path = (run / "generic.safetensors").read_bytes(), tmp_path / "x.safetensors"

    def error() -> str:
        message = error_of(lambda: load_trained(path))
        assert str(path) in message
        return message

    assert "there is no such file" in error()
    for content in (b"", b"no model", whole[:-10], b"\xff" * 100):
        path.write_bytes(content)
        assert "cannot be read as safetensors" in error()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "is damaged" in error()
    save_file({"a": np.zeros(3, np.float32)}, path)
    assert "not a model of this version" in error()
    assert "unknown head 'psi'" in error_of(lambda: load_trained(run, head="psi"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("classes", ["a", "b"], "its head answers 10 classes, the header names 2"),
        ("classes", [], "its header cannot be read"),
        ("mean", [0.1, 0.2], "another number of channels"),
        ("std", [0.0], "its header cannot be read"),
        ("present", [True], "another number of classes"),
        ("method", "fedmagic", "method 'fedmagic' is not known here"),
        ("channels", 3, "its arrays make no fedloge model"),
    ],
)
def test_headers_that_do_not_fit_are_refused(
    run: Path, tmp_path: Path, error_of: ErrorOf, key: str, value: Any, message: str
) -> None:
    arrays, about = read_arrays(run / "generic.safetensors")
    path = tmp_path / "x.safetensors"
    save_arrays(path, arrays, about | {"model": json.dumps(json.loads(about["model"]) | {key: value})})
    assert message in error_of(lambda: load_trained(path))


def test_arrays_that_are_missing_are_named(run: Path, tmp_path: Path, error_of: ErrorOf) -> None:
    arrays, about = read_arrays(run / "generic.safetensors")
    del arrays["backbone.stage1.0.weight"]
    save_arrays(tmp_path / "x.safetensors", arrays, about | {"sha256": arrays_digest(arrays)})
    assert "backbone.stage1.0.weight is missing" in error_of(lambda: load_trained(tmp_path / "x.safetensors"))
    shutil.copy(run / "frame.safetensors", tmp_path / "x.safetensors")
    assert "not a model of this version" in error_of(lambda: load_trained(tmp_path / "x.safetensors"))
