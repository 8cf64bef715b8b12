"""Runs that start from weights: an ImageNet file, an earlier run, and files that will not do."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from common.config import APP_ROOT, Experiment
from common.data import build_federation
from common.errors import UserError
from common.models.backbones import build_backbone
from common.models.model import Model
from common.models.weights import load_weights, pin_weights, read_weights
from common.wire import Request
from server_app.compare.cells import Cell, _without_folder
from server_app.engines.engines import run_local
from server_app.generic import export
from server_app.run.journal import read_events, read_json

Tiny = Callable[..., Experiment]
MOBILENET = APP_ROOT.parent / "shared" / "weights" / "mobilenet_v2.safetensors"
needs_mobilenet = pytest.mark.skipif(not MOBILENET.exists(), reason=f"{MOBILENET} is not there: ImageNet weights")


@pytest.fixture
def shuffle(tmp_path: Path) -> Path:
    """Return a file of random weights of a small model of torchvision, with its classifier."""
    from torchvision.models import shufflenet_v2_x0_5

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = shufflenet_v2_x0_5(weights=None)
    torch.save(model.state_dict(), tmp_path / "shuffle.pth")
    return tmp_path / "shuffle.pth"


def pretrained(tiny: Tiny, weights: Path, **changes: Any) -> Experiment:
    values = {"backbone": "torchvision:shufflenet_v2_x0_5", "width": None, "image_size": 32, "rounds": 1}
    return tiny(weights=str(weights), **(values | changes))


def test_a_run_starts_from_the_file_and_names_it_everywhere(
    tiny: Tiny, shuffle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from client_app import app as site_code

    arrived: list[dict[str, np.ndarray]] = []
    real = site_code.assemble

    def listening(request: Request, *rest: Any) -> Model:
        arrived.append(request.fixed | request.model)
        return real(request, *rest)

    monkeypatch.setattr(site_code, "assemble", listening)
    experiment = pin_weights(pretrained(tiny, shuffle))
    folder = run_local(pretrained(tiny, shuffle))
    own = torch.load(shuffle, weights_only=True)
    body = {name: value.numpy() for name, value in own.items() if not name.startswith("fc.")}
    for name, value in body.items():
        assert np.array_equal(arrived[0][f"backbone.{name}"], value), name
    event = next(e for e in read_events(folder) if e["event"] == "weights")
    assert event["unused"] == ["fc.bias", "fc.weight"] and event["arrays"] == len(body)
    assert event["sha256"] == experiment.model.weights_sha256 == read_json(folder / "config.json")["weights-sha256"]
    dataset = build_federation(experiment).dataset
    assert dataset.train.channels == 1 and dataset.mean == (0.485, 0.456, 0.406)


def test_the_card_names_the_hash_of_the_weights_and_not_their_folder(
    tiny: Tiny, shuffle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_local(pretrained(tiny, shuffle, method="fedavg"))
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    export.export(folder)
    card = (folder / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"weights-sha256: {hashlib.sha256(shuffle.read_bytes()).hexdigest()}" in card
    assert f"weights: {shuffle.name}" in card and str(shuffle.parent) not in card


def test_another_file_of_the_same_name_is_another_experiment(tiny: Tiny, shuffle: Path) -> None:
    experiment = pretrained(tiny, shuffle)
    before = Cell(experiment).identity()
    run_local(experiment)
    arrays = torch.load(shuffle, weights_only=True)
    arrays["conv1.0.weight"] += 1
    torch.save(arrays, shuffle)
    assert Cell(experiment).identity() != before
    with pytest.raises(UserError, match="resume: weights-sha256 = "):
        run_local(experiment.replace(resume=True, rounds=2))
    with pytest.raises(UserError, match="another file than weights-sha256 asks for"):
        pin_weights(experiment.replace(weights_sha256=before["weights-sha256"]))


def test_a_run_may_start_from_another_one(tiny: Tiny) -> None:
    first = run_local(tiny(run_name="first"))
    experiment = pin_weights(tiny(run_name="second", weights=f"run:{first}", method="fedrod"))
    backbone = build_backbone("cnn", 1, 4)
    loaded = load_weights(backbone, experiment)
    theirs = load_file(first / "generic.safetensors")
    assert loaded.unused == ("aux_head.weight", "aux_head_realigned.weight", "frame.weight")
    assert loaded.arrays == len(backbone.state_dict())
    assert all(torch.equal(value, theirs[f"backbone.{name}"]) for name, value in backbone.state_dict().items())
    assert any(e["event"] == "weights" for e in read_events(run_local(experiment)))


FAULTS = {
    "missing: stage1.0.weight$": lambda a: a.pop("stage1.0.weight"),
    "unexpected: extra$": lambda a: a.update(extra=torch.zeros(1)),
    r"of another shape: stage1.0.weight is \[2\], not \[4, 1, 3, 3\]": lambda a: a.update(
        {"stage1.0.weight": torch.zeros(2)}
    ),
    "not finite: stage3.1.bias$": lambda a: a["stage3.1.bias"].fill_(float("nan")),
}


@pytest.mark.parametrize("words", FAULTS)
def test_weights_that_do_not_fit_are_named_in_one_line(tiny: Tiny, tmp_path: Path, words: str) -> None:
    arrays = {name: value.clone() for name, value in build_backbone("cnn", 1, 4).state_dict().items()}
    FAULTS[words](arrays)
    path = tmp_path / "odd.safetensors"
    save_file(arrays, path)
    with pytest.raises(UserError, match=rf"^{path}: does not fit backbone 'cnn': .*{words}"):
        run_local(tiny(weights=str(path)))


def test_every_mistake_of_another_layout_is_counted(tiny: Tiny, shuffle: Path) -> None:
    with pytest.raises(UserError) as caught:
        run_local(pretrained(tiny, shuffle, backbone="torchvision:resnet18"))
    assert "missing: conv1.weight, bn1.weight, bn1.bias and " in str(caught.value)
    assert "unexpected: conv1.0.weight, " in str(caught.value)


def test_files_that_are_no_weights_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    missing, damaged, code, empty = (tmp_path / n for n in ("none.pth", "bad.safetensors", "code.pth", "empty.pth"))
    empty.touch()
    damaged.write_bytes(b"\x10\0\0\0\0\0\0\0{nothing")
    torch.save({"w": os.getcwd}, code)  # what would have to be unpickled
    unread = {
        damaged: r"read as weights \(Err",
        code: "read as weights",
        empty: r"read as weights \(it is empty, or cut\)",
    }
    for path, words in (unread | {missing: "there is no file ", tmp_path: "there is no file "}).items():
        with pytest.raises(UserError, match=words) as caught:
            run_local(tiny(weights=str(path)))
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    numbers = tmp_path / "numbers.pth"
    torch.save({"w": torch.zeros(1), "epoch": 3}, numbers)
    with pytest.raises(UserError, match="no state dict: epoch is no tensor"):
        read_weights(numbers)
    torch.save({"state_dict": {"module.w": torch.ones(1)}, "epoch": 3}, numbers)
    assert read_weights(numbers).keys() == {"w"}


def test_imagenet_without_network_says_where_to_put_the_file(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
    experiment = tiny(backbone="torchvision:resnet18", width=None, weights="imagenet", image_size=32)
    with pytest.raises(UserError, match=rf"no network.* put it at {tmp_path}/checkpoints/resnet18-[0-9a-f]+.pth"):
        pin_weights(experiment)
    with pytest.raises(UserError, match="weights = 'imagenet': there are none for 'cnn'"):
        tiny(weights="imagenet")


def test_sites_are_told_no_folder_of_the_coordinators() -> None:
    from common.config import portable

    told = portable({"weights": "/secret/folder/w.pth"}), portable({"weights": "run:/secret/run"})
    assert [each["weights"] for each in told] == ["w.pth", "run:run"]
    assert portable({"weights": "imagenet"}) == {"weights": "imagenet"}


@needs_mobilenet
def test_mobilenets_file_gives_torchvisions_features(tiny: Tiny) -> None:
    from torchvision.models import mobilenet_v2

    experiment = tiny(backbone="torchvision:mobilenet_v2", width=None, weights=str(MOBILENET), image_size=64)
    backbone = build_backbone("torchvision:mobilenet_v2", 1).eval()
    loaded = load_weights(backbone, pin_weights(experiment))
    assert loaded.unused == () and loaded.arrays == 312
    theirs = mobilenet_v2(weights=None).eval()
    theirs.load_state_dict(load_file(MOBILENET), strict=False)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), theirs.features(images).mean((2, 3)))


def test_a_result_holds_for_a_file_of_weights_wherever_it_lies(tiny: Tiny, shuffle: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / shuffle.name
    other.parent.mkdir()
    shutil.copy(shuffle, other)
    one, same = Cell(pretrained(tiny, shuffle)), Cell(pretrained(tiny, other))
    assert one.identity() == same.identity() and one.config_hash == same.config_hash
    assert one.identity()["weights"] == shuffle.name and str(tmp_path) not in str(one.identity())
    arrays = torch.load(shuffle, weights_only=True)
    torch.save({name: value + 1 if value.is_floating_point() else value for name, value in arrays.items()}, other)
    assert Cell(pretrained(tiny, other)).config_hash != one.config_hash
    assert _without_folder("run:/a/b") == "run:b" and _without_folder("imagenet") == "imagenet"
