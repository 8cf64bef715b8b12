"""Any model of torchvision as a backbone: its own forward pass, its names, stages and smallest images."""

import pytest
import torch
from torch import nn
from torchvision import models

from common.config import build
from common.errors import UserError
from common.models.backbones import Backbone, build_backbone, check_image_size
from common.models.torchvision_backbones import VisionTransformerBackbone, interpolated, torchvision_names

# side; what to put in place of what torchvision's own model has behind its features; how many stages
MODELS = {
    "resnet18": (40, {"fc": nn.Identity()}, 6),
    "mobilenet_v2": (32, {"classifier": nn.Identity()}, 19),
    "mobilenet_v3_small": (32, {"classifier": nn.Identity()}, 13),
    "densenet121": (32, {"classifier": nn.Identity()}, 10),
    "efficientnet_b0": (32, {"classifier": nn.Identity()}, 9),
    "convnext_tiny": (32, {"classifier.2": nn.Identity()}, 9),
    "swin_t": (32, {"head": nn.Identity()}, 9),
    "vit_b_16": (32, {"heads": nn.Identity()}, 14),
    "regnet_y_400mf": (32, {"fc": nn.Identity()}, 5),
    "shufflenet_v2_x0_5": (32, {"fc": nn.Identity()}, 5),
    "mnasnet1_0": (32, {"classifier": nn.Identity()}, 14),
    "squeezenet1_1": (32, {"classifier": nn.AdaptiveAvgPool2d(1)}, 9),
    "googlenet": (32, {"fc": nn.Identity()}, 12),
    "vgg11": (32, {"avgpool": nn.AdaptiveAvgPool2d(1), "classifier": nn.Identity()}, 8),
    "maxvit_t": (224, {"classifier.3": nn.Identity(), "classifier.5": nn.Identity(), "classifier.4": nn.Identity()}, 6),
}


def of_torchvision(name: str, side: int) -> nn.Module:
    more = {"image_size": side} if name.startswith("vit") else {}
    more |= {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    return models.get_model(name, weights=None, **more)


def ours(name: str, channels: int = 3) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_backbone(f"torchvision:{name}", channels)


@pytest.mark.parametrize("name", MODELS)
def test_features_are_those_of_torchvisions_own_model(name: str) -> None:
    side, replaced, stages = MODELS[name]
    backbone, theirs = ours(name).eval(), of_torchvision(name, side)
    for path, layer in replaced.items():
        theirs.set_submodule(path, layer)
    own = backbone.state_dict()
    if name == "vit_b_16":  # theirs is made for this side, ours for 224
        own["encoder.pos_embedding"] = interpolated(own["encoder.pos_embedding"], 2, 2)
    theirs.load_state_dict(own)  # strict: the names are theirs, all of them
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features, expected = backbone(images), theirs.eval()(images)
        feature_map, grey = backbone.feature_map(images), backbone(images[:, :1])
        torch.testing.assert_close(features, expected)
        torch.testing.assert_close(grey, backbone(images[:, :1].repeat(1, 3, 1, 1)))
    assert features.shape == (2, backbone.feature_dim) and feature_map.shape[:2] == (2, backbone.feature_dim)
    if "norm" not in str(getattr(backbone, "classifier", "")).lower() and name != "vit_b_16":
        torch.testing.assert_close(feature_map.mean((2, 3)), expected)
    assert len(backbone.stage_names()) == stages
    named = [key for key in own if key.startswith(tuple(f"{stage}." for stage in backbone.stage_names()))]
    assert {*own} - {*named} <= {"class_token", "encoder.pos_embedding"}


@pytest.mark.parametrize("name", ["mobilenet_v2", "vit_b_16", "convnext_tiny"])
def test_a_step_moves_every_weight_and_draws_nothing(name: str) -> None:
    backbone = ours(name).train()
    before = torch.random.get_rng_state()
    backbone(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    assert torch.equal(before, torch.random.get_rng_state())
    assert [key for key, weight in backbone.named_parameters() if weight.grad is None] == []


def test_positions_are_as_they_are_on_the_grid_they_were_made_for() -> None:
    positions = torch.randn(1, 17, 8)
    assert interpolated(positions, 4, 4) is positions
    flat = torch.full((1, 17, 8), 2.5)
    torch.testing.assert_close(interpolated(flat, 3, 7), torch.full((1, 22, 8), 2.5))


def test_a_vision_transformers_feature_is_its_class_token() -> None:
    backbone = ours("vit_b_32").eval()
    assert isinstance(backbone, VisionTransformerBackbone)
    with torch.no_grad():
        assert backbone.feature_map(torch.zeros(1, 3, 70, 100)).shape == (1, 768, 2, 3)


@pytest.mark.parametrize(
    ("name", "size", "needed"),
    [("vgg11", (31, 40), 32), ("convnext_tiny", (8, 8), 32), ("vit_b_16", (16, 15), 16), ("maxvit_t", (128, 128), 221)],
)
def test_images_that_are_too_small_are_refused_before_anything_is_computed(
    name: str, size: tuple[int, int], needed: int
) -> None:
    with pytest.raises(UserError, match=rf"^images of .* 'torchvision:{name}', which needs {needed}×{needed}; "):
        check_image_size(f"torchvision:{name}", size)
    check_image_size(f"torchvision:{name}", (224, 224))


def test_every_classification_model_can_be_named_and_no_other() -> None:
    for name in torchvision_names():
        assert build({"backbone": f"torchvision:{name}"}).model.backbone == f"torchvision:{name}"
    with pytest.raises(UserError, match=r"unknown backbone 'torchvision:resnet19' \(did you mean 'torchvision:resnet1"):
        build_backbone("torchvision:resnet19", 3)
    with pytest.raises(UserError, match="unknown backbone 'torchvision:raft_large'"):
        check_image_size("torchvision:raft_large", (224, 224))
    with pytest.raises(UserError, match="torchvision:NAME"):
        build({"backbone": "torchvison:resnet18"})
    with pytest.raises(UserError, match="width = 32: torchvision:resnet18 has its own; leave width out"):
        build({"backbone": "torchvision:resnet18", "width": 32})
