"""A trunk computed once gives what a trunk computed each time gives: bit for bit in single precision, on a CPU."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor

from common.config import Experiment, build
from common.data import load_dataset
from common.data.images.views import Views
from common.methods import METHODS
from common.models import trunk
from common.models.backbones import Backbone, build_backbone
from common.models.features import extract_features
from common.models.ladm import LabelAwareBackbone
from common.models.model import build_model, load_state
from common.models.standing import make_stand
from common.models.trunk import behind_trunk, through_trunk, trunk_digest, trunk_of
from common.models.trunk_cache import TrunkCache, use_trunk_cache
from server_app.engines.engines import run_local

Tiny = Callable[..., Experiment]
# architectures of each kind, with a stage amid them
SPLITS = {
    "cnn": "stage2",
    "resnet8": "stage3",
    "torchvision:resnet18": "layer4",
    "torchvision:mobilenet_v2": "features.14",
    "torchvision:densenet121": "features.denseblock4",
    "torchvision:convnext_tiny": "features.7",
    "torchvision:swin_t": "features.7",
    "torchvision:vit_b_16": "encoder.layers.encoder_layer_10",
    "torchvision:regnet_y_400mf": "trunk_output.block4",
    "torchvision:shufflenet_v2_x0_5": "conv5",
}


def images(count: int, side: int = 32) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(count))


def standing(name: str, stage: str) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = build_backbone(name, 3)
    return make_stand(body, build({"backbone": name, "train-from": stage})).train()


@pytest.mark.parametrize("stage", ["amid", "head"])
@pytest.mark.parametrize("name", SPLITS)
def test_features_behind_the_trunk_are_the_features(name: str, stage: str) -> None:
    body, x = standing(name, SPLITS[name] if stage == "amid" else "head"), images(16)
    assert trunk_of(body) is body
    norms = [m for m in body.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert stage == "amid" or not any(norm.training for norm in norms)
    whole = body(x)
    output = through_trunk(body, x)
    with behind_trunk(body, body):
        behind = body(output)
    assert torch.equal(whole, behind) and not output.requires_grad
    assert output.dim() == 2 if stage == "head" else behind.requires_grad
    assert not torch.equal(output.flatten(), x.flatten())
    assert torch.equal(whole, body(x))  # and takes images again


@pytest.mark.parametrize("name", ["cnn", "torchvision:mobilenet_v2", "torchvision:vit_b_16"])
@pytest.mark.parametrize("stage", ["amid", "head"])
def test_attention_behind_the_trunk_is_attention(name: str, stage: str) -> None:
    body = standing(name, SPLITS[name] if stage == "amid" else "head")
    backbone, x = LabelAwareBackbone(body, 4, torch.randn(5, body.feature_dim)), images(16)
    whole, output = backbone(x), through_trunk(body, x)
    with behind_trunk(backbone, trunk_of(backbone)):
        assert torch.equal(whole, backbone(output)) and output.dim() > 2


@pytest.mark.parametrize("name", ["cnn", "resnet8", "torchvision:resnet18", "torchvision:mobilenet_v2"])
def test_an_images_output_does_not_depend_on_its_company(name: str) -> None:
    body, x = standing(name, SPLITS[name]), images(70)
    together = through_trunk(body, x)
    for size in (1, 2, 7, 16, 33):
        assert torch.equal(torch.cat([through_trunk(body, part) for part in x.split(size)]), together)


def test_trunks_that_differ_are_no_trunk() -> None:
    first, other = standing("cnn", "stage2"), standing("cnn", "stage2")
    both = torch.nn.ModuleList([first, other])
    assert trunk_of(both) is first
    with torch.no_grad():
        other.get_parameter("stage1.0.weight").add_(1)
    assert trunk_of(both) is None
    assert trunk_of(torch.nn.Linear(2, 2)) is None
    assert trunk_of(build_backbone("cnn", 3)) is None


def test_a_trunks_hash_is_kept_until_its_arrays_change(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []
    real = hashlib.sha256
    monkeypatch.setattr(trunk.hashlib, "sha256", lambda start: hashed.append(start) or real(start))
    body, same = standing("cnn", "stage2"), standing("cnn", "stage2")
    first = trunk_digest(body)
    with torch.no_grad():
        body.get_parameter("stage3.0.weight").add_(1)  # behind the trunk
    assert trunk_digest(body) == first == trunk_digest(same) and len(hashed) == 2
    load_state(body, {name: value.numpy() + 1 for name, value in body.state_dict().items()})
    other = trunk_digest(body)
    body.get_buffer("stage1.1.running_mean").add_(1)
    body.get_submodule("stage1.0").weight = torch.nn.Parameter(torch.zeros(16, 3, 3, 3))
    assert len({first, other, trunk_digest(body), trunk_digest(body.set_format(True, "fp32"))}) == 4


def same_models(one: Path, other: Path) -> bool:
    names = sorted(path.relative_to(one) for path in one.rglob("*.safetensors"))
    assert names == sorted(path.relative_to(other) for path in other.rglob("*.safetensors")) and names
    pairs = [(load_file(one / name), load_file(other / name)) for name in names]
    return all(a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a) for a, b in pairs)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_with_the_cache_is_the_run_without(tiny_for: Tiny, tmp_path: Path, method: str) -> None:
    keys: dict[str, Any] = {"train_from": "stage3", "finetune_epochs": 1, "image_cache": tmp_path / "cache"}
    off = run_local(tiny_for(method, trunk_cache=False, run_name="off", **keys))
    assert not (tmp_path / "cache" / "trunks").exists()
    on = run_local(tiny_for(method, run_name="on", **keys))
    caches = list((tmp_path / "cache" / "trunks").iterdir())
    assert {np.fromfile(cache / "checksums", np.uint32).any() for cache in caches} == {True} and len(caches) == 2
    assert same_models(on, off)


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect how many images go through a trunk, each time."""
    numbers: list[int] = []
    real = trunk._trunk_output
    monkeypatch.setattr(trunk, "_trunk_output", lambda body, x: numbers.append(len(x)) or real(body, x))
    return numbers


def test_images_are_passed_once_in_all_rounds_and_runs(tiny: Tiny, tmp_path: Path, passed: list[int]) -> None:
    keys: dict[str, Any] = {"image_cache": tmp_path / "cache", "train_from": "stage2", "width": 5}
    experiment = tiny(method="fedavg", rounds=3, **keys)
    dataset = load_dataset(experiment)
    run_local(experiment)
    most = len(dataset.train) + len(dataset.test)
    assert len(dataset.test) < sum(passed) <= most + 64  # of chunks below 16 images, filled up; one for the shape
    passed.clear()
    run_local(tiny(method="fedloge", run_name="other", **keys))
    assert sum(passed) <= 16  # of one image, for the size that the log names beforehand


def test_augmented_images_are_never_taken_from_the_cache(tiny: Tiny, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"train_from": "stage2", "augment": "crop-flip", "image_cache": tmp_path}
    on = run_local(tiny(method="fedavg", run_name="on", **keys))
    off = run_local(tiny(method="fedavg", run_name="off", trunk_cache=False, **keys))
    assert same_models(on, off)


def test_fixed_views_are_computed_once_and_the_same_without_a_cache(
    tiny: Tiny, tmp_path: Path, passed: list[int]
) -> None:
    keys: dict[str, Any] = {"train_from": "stage2", "augment": "crop-flip+rotate", "image_cache": tmp_path, "rounds": 4}
    on = run_local(tiny(method="fedavg", run_name="on", cached_views=2, **keys))
    with_cache = sum(passed)
    off = run_local(tiny(method="fedavg", run_name="off", cached_views=2, trunk_cache=False, **keys))
    assert same_models(on, off) and with_cache < (sum(passed) - with_cache) * 0.7
    anew = run_local(tiny(method="fedavg", run_name="anew", **keys))
    assert not same_models(on, anew)


def test_a_view_depends_on_its_number_and_seed_alone() -> None:
    pixels = torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views, numbers = Views("random-resized-crop+flip", 3, 1), np.array([0, 7, 14, 3, 16, 5])
    of_images = pixels[torch.from_numpy(numbers % 6)]
    found = views.apply(of_images, numbers, 6)
    alone = [views.apply(of_images[i : i + 1], numbers[i : i + 1], 6)[0] for i in range(6)]
    assert torch.equal(found, torch.stack(alone)) and not torch.equal(found, of_images)
    assert not torch.equal(found, Views("random-resized-crop+flip", 3, 2).apply(of_images, numbers, 6))
    drawn = views.numbers(np.arange(6).repeat(50), 6, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == set(range(18)) and (drawn % 6 == np.arange(6).repeat(50)).all()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 2e-3), ("bf16", 2e-2)])
def test_half_precision_is_close(tiny: Tiny, tmp_path: Path, precision: str, tolerance: float) -> None:
    experiment = tiny(train_from="stage3", width=8)
    dataset = load_dataset(experiment)
    model, rows = build_model(experiment, 1, 10, torch.eye(10, 32)), np.arange(60)
    expected, _ = extract_features(model.backbone, dataset.train, rows, dataset)
    trunk_of(model).trunk_cache = TrunkCache(tmp_path, precision)  # type: ignore[union-attr]
    found, _ = extract_features(model.backbone, dataset.train, rows, dataset)
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    size = next(tmp_path.iterdir()).joinpath("outputs").stat().st_size
    assert size == len(dataset.train) * (16 * 2 * 2) * 2


def test_a_cache_is_of_one_trunk_and_one_set_of_images(tiny: Tiny, tmp_path: Path) -> None:
    experiment = tiny(train_from="stage3", image_cache=tmp_path)
    dataset, rows = load_dataset(experiment), np.arange(20)

    def caches(**changes: Any) -> int:
        changed = tiny(**{"train_from": "stage3", "image_cache": tmp_path} | changes)
        model = build_model(changed, 1, 10, torch.eye(10, 16))
        use_trunk_cache(model, changed)
        extract_features(model.backbone, dataset.train, rows, dataset)
        return len(list((tmp_path / "trunks").iterdir()))

    assert [caches(), caches(), caches(method="fedavg"), caches(sites=2)] == [1, 1, 1, 1]
    assert [caches(seed=1), caches(train_from="stage2"), caches(trunk_precision="fp16")] == [2, 3, 4]
    assert caches(channels_last=True) == 5
    assert caches(trunk_cache=False) == 5
