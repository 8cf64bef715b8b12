"""Any model of timm as a backbone, under its own names: `timm:mobilenetv3_small_050` (extra `fednc[timm]`).

What is taken is timm's model without its classifier (`num_classes=0`): features are what it gives then, so that d may
be longer than its last map has channels (MobileNetV3). Label-aware attention asks the last map, or the patches' tokens;
where d is longer, what the model makes of each pixel by itself; a model of several maps has one pixel, its features.
Three things differ from timm's own model, and none changes what weights mean: dropout and stochastic depth are off,
grey images are repeated over three channels, and where timm can do it, images have any size, positions interpolated.

Families compute in ways of their own. Which of a model's parts run in a row, each on what the one before gave and on
nothing else, is seen by watching it once on the meta device: these are its stages. What comes before them is one step.
A model whose parts do not work so has no stages: all of it trains, or the heads alone.
"""

import math
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from common.architectures import TIMM
from common.errors import UserError, one_line
from common.models.backbones import Backbone
from common.models.timm_layout import Layout, on_meta, timm_model, watched
from common.timm_facts import pretrained_facts

_LARGEST_SIDE = 1024  # pixels; no model needs more
_BEFORE, _HEAD = "before", "pooling"  # steps that are no part of timm's


class TimmBackbone(Backbone):
    """A model of timm.

    Args:
        model: timm's, without a classifier.
        layout: of that model.
    """

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        super().__init__({}, layout.feature_dim)
        # The state is timm's, under its names. What computes the first step and pooling is timm's model, whose own
        # parameters are therefore these very dictionaries: what moves or replaces one here does so there.
        parts, rows = dict(model.named_children()), _without(model, layout.row)
        self._parameters, self._buffers = model._parameters, model._buffers
        self._non_persistent_buffers_set = model._non_persistent_buffers_set
        self._modules = dict(parts)
        model._modules |= rows
        self._layout = layout
        self._unregistered = (_Before(model, layout), _Pooling(model, layout))

    def steps(self) -> dict[str, nn.Module]:
        """Return what computes the features, in order: what comes before the row, the row, and pooling."""
        before, pooling = self._unregistered
        first: dict[str, nn.Module] = {} if self._layout.whole else {_BEFORE: before}
        return first | {path: self.get_submodule(path) for path in self._layout.row} | {_HEAD: pooling}

    def map_steps(self) -> int:
        """Return how many of the steps come before pooling."""
        return len(self.steps()) - 1

    def from_images(self, images: Tensor) -> Tensor:
        """Return images in colour."""
        return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images

    def feature_map(self, images: Tensor) -> Tensor:
        """Return the last map, or the patches' tokens, as a map [B, feature_dim, h, w]."""
        found, layout = super().feature_map(images), self._layout
        if not layout.single:
            return self.pooled(found)[:, :, None, None]
        if found.dim() == 4 and found.shape[1] != layout.channels:
            found = found.permute(0, 3, 1, 2)
        if found.dim() == 3:
            found = _as_map(found[:, layout.before_tokens :], tuple(images.shape[-2:]))
        return found if layout.channels == layout.feature_dim else self._each_pixel(found)

    def pooled(self, feature_map: Tensor) -> Tensor:
        """Return features [B, feature_dim] of what the last step before pooling gives."""
        with self.computing(feature_map):
            features: Tensor = self._unregistered[1](feature_map)
        return features.float()

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Choose train or eval mode; what stands still stays in eval mode."""
        for step in self._unregistered:
            step.training = step.model.training = mode
        super().train(mode)
        return self

    def stage_names(self) -> tuple[str, ...]:
        """Return the parts of the row that have weights, in order."""
        return tuple(path for path in self._layout.row if self.get_submodule(path).state_dict())

    def pooling_names(self) -> tuple[str, ...]:
        """Return the parts with weights behind the last map."""
        return self._layout.head

    def _each_pixel(self, found: Tensor) -> Tensor:
        """Return what pooling makes of each pixel by itself, as a map [B, feature_dim, h, w] of a map [B, c, h, w]."""
        batch, channels, height, width = found.shape
        pixels = found.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
        return self.pooled(pixels).reshape(batch, height, width, -1).permute(0, 3, 1, 2)


class _Before(nn.Module):
    """What a model does before its row: all of it, with nothing where the row is."""

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.model, self.single = model, layout.single

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.model.forward_features(images) if self.single else self.model(images)  # type: ignore[operator]
        return answer


class _Pooling(nn.Module):
    """What a model makes of its last map: features [B, d]."""

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.model, self.single = model, layout.single

    def forward(self, found: Tensor) -> Tensor:
        answer: Tensor = self.model.forward_head(found, pre_logits=True) if self.single else found  # type: ignore[operator]
        return answer.flatten(1)


def timm_backbone(name: str) -> Backbone:
    """Build a freshly initialised backbone.

    Args:
        name: as timm has it, without our prefix; with or without the tag of its weights.

    Raises:
        UserError: timm is not installed, or has no such model.
    """
    known = layout(name)
    return TimmBackbone(timm_model(name), known)


@lru_cache(maxsize=16)
def layout(name: str) -> Layout:
    """Return how a model computes; nothing is: it is watched on the meta device.

    Raises:
        UserError: it cannot be watched.
    """
    side = pretrained_facts(name)["input_size"][-1]
    try:
        found = watched(name, side)
    except Exception as error:  # each family has its own
        why = one_line(str(error), 120)
        raise UserError(f"backbone '{TIMM}{name}' cannot be taken apart ({why}); choose another of timm's") from None
    try:
        with torch.no_grad():
            TimmBackbone(on_meta(name), found).eval()(torch.empty(1, 3, side, side, device="meta"))
    except Exception:  # its parts take more than what the one before gave
        return replace(found, row=(), whole=False)
    return found


def needed_side(name: str, size: tuple[int, int]) -> int | None:
    """Return None where the model takes images of `size` (H, W); else the side nearest above that it takes.

    Where it takes none above, the one that it was made for. Nothing is computed: shapes alone go through the model.
    """
    if _takes(name, *size):
        return None
    sides = range(max(1, min(size)), _LARGEST_SIDE + 1)
    made_for = int(pretrained_facts(name)["input_size"][-1])
    return next((side for side in sides if _takes(name, side, side)), made_for)


@torch.no_grad()
def _takes(name: str, height: int, width: int) -> bool:
    try:
        features = _shapes(name)(torch.empty(1, 3, height, width, device="meta"))
    except (RuntimeError, ValueError, AssertionError):
        return False
    return bool(features.numel())


@lru_cache(maxsize=4)
def _shapes(name: str) -> nn.Module:
    return TimmBackbone(on_meta(name), layout(name)).eval()


def _without(model: nn.Module, row: tuple[str, ...]) -> dict[str, nn.Module]:
    """Return by name what stands in a model where the row does its work: nothing is done there."""
    found: dict[str, nn.Module] = {}
    for path in row:
        name, _, inner = path.partition(".")
        if not inner:
            found[name] = nn.Identity()
            continue
        stages = dict(found.get(name, model.get_submodule(name)).named_children()) | {inner: nn.Identity()}
        found[name] = nn.Sequential()
        for key, stage in stages.items():
            found[name].add_module(key, stage)
    return found


def _as_map(tokens: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return tokens [B, h·w, c] as a map [B, c, h, w] of the images' form, or as a column."""
    number = tokens.shape[1]
    height = round(math.sqrt(number * size[0] / size[1])) or 1
    grid = (height, number // height) if number % height == 0 else (number, 1)
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
