"""Any model of timm as a backbone: timm's own forward pass, names, stages and weights."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common import timm_facts
from common.config import Experiment, build
from common.data.images.pretrained import interpolation_of, pretrained_moments
from common.errors import UserError
from common.models import timm_backbones
from common.models.backbones import Backbone, build_backbone, check_image_size
from common.models.ladm import LabelAwareBackbone
from common.models.standing import check_train_from, make_stand
from common.models.trained import GENERIC
from common.models.trunk import behind_trunk, through_trunk, trunk_of
from common.models.weights import load_weights, pin_weights
from server_app.engines.engines import run_local
from server_app.run.journal import read_events

timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'fednc[timm]'")

Tiny = Callable[..., Experiment]
# side of the images; a stage amid the others; the form of the map that attention asks
MODELS = {
    "mobilenetv3_small_050": (64, "blocks.4", (2, 2)),
    "vit_tiny_patch16_224": (224, "blocks.9", (14, 14)),
    "resnet10t": (64, "layer4", (2, 2)),
    "convnext_atto": (64, "stages.2", (2, 2)),
    "efficientnet_lite0": (64, "blocks.5", (2, 2)),
}
SMALL, VIT = "timm:mobilenetv3_small_050", "vit_tiny_patch16_224"


def images(count: int, side: int, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(count))


def ours(name: str) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_backbone(f"timm:{name}", 3)


def of_timm(name: str, own: dict[str, Tensor]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    model.load_state_dict(own)  # strict: the names are timm's, all of them
    return model


@pytest.mark.parametrize("name", MODELS)
def test_features_are_those_of_timms_own_model(name: str) -> None:
    side, stage, form = MODELS[name]
    backbone, x = ours(name), images(2, side)
    assert stage in backbone.stage_names()
    theirs = of_timm(name, backbone.state_dict()).eval()
    backbone.eval()
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), theirs(x), rtol=0, atol=0)
        torch.testing.assert_close(backbone(x[:, :1]), theirs(x[:, :1].repeat(1, 3, 1, 1)))
        assert backbone(x).shape == (2, backbone.feature_dim)
        assert backbone.feature_map(x).shape == (2, backbone.feature_dim, *form)


@pytest.mark.parametrize("at", ["amid", "head"])
@pytest.mark.parametrize("name", MODELS)
def test_what_timms_models_make_behind_the_trunk_is_what_they_make(name: str, at: str) -> None:
    side, amid, _ = MODELS[name]
    stage, x = amid if at == "amid" else "head", images(16, side)
    body = make_stand(ours(name), build({"backbone": f"timm:{name}", "train-from": stage})).train()
    assert trunk_of(body) is body
    whole, output = body(x), through_trunk(body, x)
    with behind_trunk(body, body):
        behind = body(output)
    assert torch.equal(whole, behind) and not output.requires_grad
    assert output.dim() == 2 if at == "head" else behind.requires_grad
    moving = {key for key, weight in body.named_parameters() if weight.requires_grad}
    assert not moving & body.fixed and bool(moving) == (at == "amid")


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", VIT])
def test_attention_behind_the_trunk_of_timms_models_is_attention(name: str) -> None:
    side, stage, _ = MODELS[name]
    body = make_stand(ours(name), build({"backbone": f"timm:{name}", "train-from": stage})).eval()
    backbone, x = LabelAwareBackbone(body, 4, torch.randn(5, body.feature_dim)), images(16, side)
    whole, output = backbone(x), through_trunk(body, x)
    with behind_trunk(backbone, trunk_of(backbone)):
        torch.testing.assert_close(backbone(output), whole)


def test_a_step_of_a_model_of_timm_moves_every_weight_and_draws_nothing() -> None:
    backbone = ours("mobilenetv3_small_050").train()
    before = torch.random.get_rng_state()
    backbone(images(4, 64)).square().sum().backward()
    assert torch.equal(before, torch.random.get_rng_state())
    assert [key for key, weight in backbone.named_parameters() if weight.grad is None] == []


def test_a_model_whose_parts_take_more_than_a_map_has_no_stages() -> None:
    known = timm_backbones.layout("beit_base_patch16_224")
    assert known.row == () and known.feature_dim == 768
    with pytest.raises(UserError, match="known: head"):
        check_train_from(build({"backbone": "timm:beit_base_patch16_224", "train-from": "blocks.3"}))


def test_timms_models_name_what_is_wrong() -> None:
    with pytest.raises(UserError, match=r"unknown backbone 'timm:resnet17': did you mean 'timm:resnet"):
        build_backbone("timm:resnet17", 3)
    with pytest.raises(UserError, match=r"unknown backbone 'timm:resnet18.a1_in2k': did you mean 'a1_in1k'"):
        build_backbone("timm:resnet18.a1_in2k", 3)
    with pytest.raises(UserError, match=r"needs 16×16"):
        check_image_size(f"timm:{VIT}", (8, 8))
    check_image_size("timm:resnet18.a1_in1k", (32, 32))
    for keys in ({"width": 8}, {"norm": "group"}):
        with pytest.raises(UserError, match=f"{next(iter(keys))} = .*leave "):
            build({"backbone": SMALL, **keys})
    with pytest.raises(UserError, match="timm:NAME"):
        build({"backbone": "timm:../resnet18"})
    with pytest.raises(UserError, match=r"known: .*blocks\.4"):
        check_train_from(build({"backbone": SMALL, "train-from": "block4"}))


def test_without_timm_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(timm_facts, "import_module", absent)
    timm_facts.pretrained_facts.cache_clear()
    timm_backbones.layout.cache_clear()
    with pytest.raises(UserError, match=re.escape("a backbone timm:NAME needs timm: pip install 'fednc[timm]'")):
        build_backbone(SMALL, 3)


def test_timms_imagenet_without_network_says_where_to_put_the_file(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
    experiment = tiny(backbone="timm:resnet18.a1_in1k", width=None, weights="imagenet", image_size=32)
    place = rf"{tmp_path}/checkpoints/timm-resnet18.a1_in1k.safetensors"
    with pytest.raises(UserError, match=rf"huggingface.co/timm/resnet18.a1_in1k/.*no network.* put it at {place}"):
        pin_weights(experiment)


def test_a_run_starts_from_a_file_with_timms_names(tiny: Tiny, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = timm.create_model("mobilenetv3_small_050", pretrained=False)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    experiment = tiny(
        backbone=SMALL,
        width=None,
        weights=str(tmp_path / "theirs.safetensors"),
        image_size=32,
        rounds=1,
        train_from="blocks.4",
    )
    backbone = build_backbone(SMALL, 3)
    loaded = load_weights(backbone, pin_weights(experiment))
    assert loaded.unused == ("classifier.bias", "classifier.weight")
    own = theirs.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in backbone.state_dict().items())
    assert pretrained_moments(experiment) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert interpolation_of(experiment) == timm.get_pretrained_cfg("mobilenetv3_small_050").interpolation == "bicubic"
    folder = run_local(experiment)
    event = next(e for e in read_events(folder) if e["event"] == "weights")
    assert event["unused"] == ["classifier.bias", "classifier.weight"] and event["arrays"] == len(own) - 2
    model = {name: value for name, value in load_file(folder / GENERIC).items() if name.startswith("backbone.")}
    trains = ("backbone.blocks.4.", "backbone.blocks.5.", "backbone.conv_head.")
    stands = {name for name in model if not name.startswith(trains)}
    assert stands and all(torch.equal(model[name], own[name.removeprefix("backbone.")]) for name in stands)
    for name in ("blocks.5.0.conv.weight", "conv_head.weight"):
        assert not torch.equal(model[f"backbone.{name}"], own[name])
