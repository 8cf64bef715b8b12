"""Any classification model of torchvision as a backbone, under its own names: `torchvision:mobilenet_v2`.

What is taken is the model up to its pooling, and of its classifier a norm that comes before the first layer with
weights (ConvNeXt, MaxViT): features are the mean of the last map, so that d is its number of channels and a map serves
attention as well. Vision transformers give the class token as feature and the patches' tokens as map. Three things
differ from torchvision's own model, and none changes what weights mean: dropout and stochastic depth are off, since a
run must repeat itself; grey images are repeated over three channels; a vision transformer takes images of any size from
one patch on, its positions interpolated (bicubic) where the grid is not the one it was made for.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer
from torchvision.ops import StochasticDepth

from common.architectures import TORCHVISION
from common.errors import unknown
from common.models.backbones import Backbone, shapes_of

# below the last map, or used in training a classifier of one's own
_NOT_IN_THE_BODY = ("avgpool", "dropout", "flatten", "fc", "head", "classifier", "AuxLogits", "aux1", "aux2")
_PIECEWISE = ("features", "layers", "trunk_output", "blocks", "encoder.layers")  # rows of stages, not stages
_WITHOUT_SIDE_HEADS = {"aux_logits": False, "init_weights": True}
_ARGUMENTS = {"googlenet": _WITHOUT_SIDE_HEADS, "inception_v3": _WITHOUT_SIDE_HEADS}
_LARGEST_SIDE = 1024  # pixels; no model needs more


class TorchvisionBackbone(Backbone):
    """A convolutional or shifted-window model: its stages in a row, mean over the last map, and perhaps a norm.

    Args:
        model: torchvision's.
        repeats_grey: whether images of one channel are repeated over three.
    """

    def __init__(self, model: nn.Module, repeats_grey: bool = True) -> None:
        classifier = _first_of(model, "classifier", "fc", "head")
        stages = {name: part for name, part in model.named_children() if name not in _NOT_IN_THE_BODY}
        if isinstance(model, models.DenseNet):
            stages["relu"] = nn.ReLU(inplace=True)  # a function there
        if isinstance(model, models.MaxVit):
            stages["blocks"] = nn.Sequential(*model.blocks)
        super().__init__(stages, _dim(model, classifier), norm=_norm(classifier))
        self.repeats_grey = repeats_grey

    def from_images(self, images: Tensor) -> Tensor:
        """Return images in colour, where the model has no other."""
        return _in_colour(images) if self.repeats_grey else images

    def steps(self) -> dict[str, nn.Module]:
        """Return what computes the features, in order; a row of blocks is as many steps."""
        return dict(_expanded(self))

    def stage_names(self) -> tuple[str, ...]:
        """Return the stages with weights in order; a row of blocks is as many stages."""
        return tuple(name for name, step in _expanded(self) if step.state_dict())


class VisionTransformerBackbone(Backbone):
    """A vision transformer: the class token is the feature, the patches' tokens are the map."""

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__({"conv_proj": model.conv_proj, "encoder": model.encoder}, model.hidden_dim)
        self.class_token = model.class_token
        self._patch = model.patch_size

    def steps(self) -> dict[str, nn.Module]:
        """Return patches, with class token and positions, then each layer, the norm, and pooling.

        Between them are tokens [B, 1 + h·w, d], the class token first.
        """
        return dict(_expanded(self))

    def stage_names(self) -> tuple[str, ...]:
        """Return patches, with class token and positions, then each layer, then the last norm."""
        return tuple(name for name, step in _expanded(self) if step.state_dict())

    def feature_map(self, images: Tensor) -> Tensor:
        """Return the patches' tokens as a map [B, feature_dim, h, w]; of a trunk's output as a column, w = 1."""
        tokens = super().feature_map(images)[:, 1:].transpose(1, 2)
        if self.reads_trunk and self.trunk:
            return tokens.unsqueeze(3)
        return tokens.reshape(*tokens.shape[:2], images.shape[2] // self._patch, images.shape[3] // self._patch)

    def run_steps(self, x: Tensor, first: int, end: int) -> Tensor:
        """Return what some steps make of their input: images, or tokens."""
        if first or not end:
            return super().run_steps(x, first, end)
        with self.computing(x):
            tokens = self._tokens(x)
        return super().run_steps(tokens, 1, end)

    def pooled(self, feature_map: Tensor) -> Tensor:
        """Return the class tokens [B, feature_dim] of tokens."""
        return feature_map[:, 0]

    def _tokens(self, images: Tensor) -> Tensor:
        """Return the first layer's tokens [B, 1 + h·w, d] of images."""
        images = _in_colour(images)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        patches = self.get_submodule("conv_proj")(images)
        classes = self.class_token.expand(len(images), -1, -1)
        tokens = torch.cat([classes, patches.flatten(2).transpose(1, 2)], dim=1)
        return tokens + interpolated(self.get_parameter("encoder.pos_embedding"), *patches.shape[2:])


def interpolated(positions: Tensor, height: int, width: int) -> Tensor:
    """Return position embeddings [1, 1 + h·w, d] for a grid of patches, of those [1, 1 + n², d] of a square one."""
    side = round((positions.shape[1] - 1) ** 0.5)
    if (height, width) == (side, side):
        return positions
    grid = positions[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
    grid = nn.functional.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def torchvision_backbone(name: str) -> Backbone:
    """Build a freshly initialised backbone.

    Args:
        name: as torchvision has it, without our prefix.

    Raises:
        UserError: it has no such classification model.
    """
    if name not in torchvision_names():
        raise unknown("backbone", TORCHVISION + name, [TORCHVISION + known for known in torchvision_names()])
    model = models.get_model(name, weights=None, **_ARGUMENTS.get(name, {}))
    for part in model.modules():
        if isinstance(part, nn.Dropout | StochasticDepth):
            part.p = 0.0
    return VisionTransformerBackbone(model) if isinstance(model, VisionTransformer) else TorchvisionBackbone(model)


def torchvision_names() -> list[str]:
    """Return torchvision's classification models."""
    return list(models.list_models(module=models))


def needed_side(name: str, size: tuple[int, int]) -> int | None:
    """Return None where the model takes images of `size` (H, W); else the smallest side from there on that it takes.

    Nothing is computed: shapes alone go through the model.
    """
    if _takes(name, *size):
        return None
    sides = range(max(1, min(size)), _LARGEST_SIDE + 1)
    return next((side for side in sides if _takes(name, side, side)), _LARGEST_SIDE)


@lru_cache(maxsize=4)
def _shapes(name: str) -> nn.Module:
    return shapes_of(lambda: torchvision_backbone(name)).eval()


@torch.no_grad()
def _takes(name: str, height: int, width: int) -> bool:
    try:
        features = _shapes(name)(torch.empty(1, 3, height, width, device="meta"))
    except (RuntimeError, ValueError):
        return False
    return bool(features.numel())


def _in_colour(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _expanded(backbone: Backbone, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, part in backbone.get_submodule(prefix.rstrip(".")).named_children():
        path = prefix + name
        if path == "encoder" or path in _PIECEWISE:
            yield from _expanded(backbone, f"{path}.")
        else:
            yield path, part


def _first_of(model: nn.Module, *names: str) -> nn.Module:
    return next(part for name, part in model.named_children() if name in names)


def _weighted(classifier: nn.Module) -> Iterator[tuple[int, nn.Linear | nn.Conv2d]]:
    for i, layer in enumerate([classifier] if isinstance(classifier, nn.Linear) else classifier.children()):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            yield i, layer


def _dim(model: nn.Module, classifier: nn.Module) -> int:
    """Return the channels of the last map: what the first layer of the classifier takes, of each pixel it sees."""
    _, first = next(_weighted(classifier))
    if isinstance(first, nn.Conv2d):
        return first.in_channels
    size = getattr(getattr(model, "avgpool", None), "output_size", 1)
    height, width = size if isinstance(size, tuple) else (size, size)
    return int(first.in_features // (height * width))


def _norm(classifier: nn.Module) -> nn.Module | None:
    """Return what the classifier does before its first layer with weights, where a norm is of it."""
    if not isinstance(classifier, nn.Sequential):
        return None
    before = classifier[: next(_weighted(classifier))[0]]
    return before if before.state_dict() else None
