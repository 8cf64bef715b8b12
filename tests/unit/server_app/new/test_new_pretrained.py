"""`fednc new` and pretrained weights: when it starts from them, which backbone, and what it says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import mobilenet_v2

from common.config import Experiment, load
from common.errors import UserError
from server_app.new import new_experiment
from server_app.new.choose import choose_size
from server_app.new.look import Sizes
from server_app.new.pretrained import choose_start

CPU, GPU = torch.device("cpu"), torch.device("cuda")  # for a choice alone no GPU has to be there
FETCHED = "mobilenet_v2-7ebf99e0.pth"  # torchvision's name

New = Callable[..., tuple[list[str], Experiment]]


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of random weights in torchvision's layout."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet.pth"
    with torch.random.fork_rng(devices=[]):
        torch.save(mobilenet_v2(weights=None).state_dict(), path)
    return path


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> New:
    """Return a function that writes an experiment on 36 photographs of 72×66 pixels, and loads it.

    `labels` is the header of their manifest's last column; keywords are those of `new_experiment`.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **__: pytest.fail("fetched"))
    generator = np.random.default_rng(0)
    for i in range(36):
        Image.fromarray(generator.integers(0, 255, (66, 72, 3), np.uint8)).save(tmp_path / f"{i}.png")

    def write(labels: str = "label", **keys: str) -> tuple[list[str], Experiment]:
        values = {"label": ("a", "b"), "labels": ("a|b", "b")}[labels]
        rows = [f"{i}.png,{values[i % 2]},{'train' if i < 28 else 'test'}" for i in range(36)]
        (tmp_path / "list.csv").write_text("\n".join([f"image,{labels},split", *rows]))
        lines = new_experiment(tmp_path / "list.csv", Path("x.yaml"), overwrite=True, **keys)  # type: ignore[arg-type]
        return lines, load("x.yaml", {}, tmp_path)

    return write


def test_photographs_start_from_imagenets_weights_and_nothing_is_fetched(new: New, tmp_path: Path) -> None:
    lines, experiment = new()
    model, train = experiment.model, experiment.train
    assert (model.backbone, model.weights, model.train_from) == ("torchvision:mobilenet_v2", "imagenet", "features.18")
    assert (train.learning_rate, train.momentum, train.schedule, train.optimizer) == (0.03, 0.9, "cosine", "sgd")
    assert (train.batch_size, train.local_epochs, experiment.rounds.rounds) == (32, 2, 10)
    assert experiment.personalise.finetune_learning_rate is None  # the method's own
    said = "weights = imagenet: the first run fetches 14 MB; without a network: --weights PATH, or --weights none"
    assert said in lines and any(line.startswith("train-from = features.18: the last block") for line in lines)
    assert "# the first run fetches 14 MB" in (tmp_path / "x.yaml").read_text()
    there = tmp_path / "torch" / "hub" / "checkpoints" / FETCHED
    there.parent.mkdir(parents=True)
    there.write_bytes(b"not looked into")
    assert f"weights = imagenet: torchvision's, {there}" in new()[0]


def test_several_labels_have_the_same_backbone(new: New, mobilenet: Path) -> None:
    _, experiment = new("labels", weights=str(mobilenet))
    assert experiment.model.weights == str(mobilenet) and experiment.model.train_from == "features.18"
    assert experiment.method == "fedloge_ml" and experiment.model.head_bias
    assert experiment.model.attention is False and experiment.train.momentum == 0.9


def test_weights_none_starts_from_nothing(new: New) -> None:
    _, experiment = new(weights="none")
    assert (experiment.model.backbone, experiment.model.weights) == ("cnn", "none")
    assert experiment.model.train_from is None and experiment.train.momentum == 0.5


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("gone.pth", r"there is no .*gone\.pth; give a file of weights, imagenet, or none$"),
        ("list.csv", r"^--weights: .*list\.csv: cannot be read as weights"),
        ("other.pth", r"^--weights: .* chooses among torchvision:mobilenet_v2 and torchvision:resnet50; for another"),
    ],
)
def test_weights_that_will_not_do_leave_no_file(weights: str, words: str, new: New, tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=words) as caught:
        new(weights=weights)
    assert "\n" not in str(caught.value) and not (tmp_path / "x.yaml").exists()


@pytest.mark.parametrize(
    ("side", "device", "backbone", "pixels"),
    [
        (40, CPU, None, 40),
        (63, GPU, None, 63),
        (64, CPU, "torchvision:mobilenet_v2", 64),
        (600, CPU, "torchvision:mobilenet_v2", 128),
        (100, GPU, "torchvision:resnet50", 100),
        (600, GPU, "torchvision:resnet50", 224),
    ],
)
def test_machine_and_images_decide(side: int, device: torch.device, backbone: str | None, pixels: int) -> None:
    sizes = Sizes((side - 2, side, side + 9), None)
    start = choose_start(None, sizes, device)
    assert (start.recipe.backbone if start else None) == backbone
    assert choose_size(sizes, device, start).value == pixels
    assert choose_start("none", sizes, device) is None


def test_given_weights_decide_on_the_backbone(mobilenet: Path) -> None:
    tiny = Sizes((32, 32), (32, 32))
    for device in (CPU, GPU):
        start = choose_start(str(mobilenet), tiny, device)
        assert start and (start.recipe.backbone, start.weights) == ("torchvision:mobilenet_v2", str(mobilenet))
    assert choose_start(None, None, CPU)  # published data sets of photographs
