"""Backbones θ: images [B, C, H, W] to features [B, d], d = `feature_dim`; heads live in `common/models/model.py`.

Those of this file end in ReLU and global average pooling, so features are non-negative and images of any size
from their row's `min_side` will do; others are in `torchvision_backbones.py` and `timm_backbones.py`. Sources: CIFAR
ResNets, He et al., CVPR 2016, section 4.2 (6n+2 layers, 3×3 stem, no max-pool, https://arxiv.org/abs/1512.03385);
`resnet18`/`resnet34` have the blocks of its Table 1 behind the CIFAR stem. Shortcuts that change shape are 1×1
projections (its option B) everywhere: 1 % more parameters in `resnet20` than the zero padding of option A, and one
rule for all.

BatchNorm in train mode needs more than one value a channel. A batch of one image has them wherever the
smallest feature map is larger than 1×1, which is from a side of 8 pixels for `cnn`, 5 for `resnet8` and
`resnet20`, 9 for `resnet18` and `resnet34`, 33 for `resnet50`. On smaller images torch raises ValueError for
a batch of one: the caller leaves such a batch out, or joins it to the one before.
"""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from common.architectures import BACKBONES, LIBRARIES, TIMM, TORCHVISION, Architecture
from common.errors import UserError, unknown
from common.seeds import borrowed_generator

if TYPE_CHECKING:
    from common.models.trunk_cache import TrunkCache

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_POOLING = ("avgpool", "classifier", "flatten")

Module = TypeVar("Module", bound=nn.Module)
Builder = Callable[[int, int | None], "Backbone"]


class Backbone(nn.Sequential):
    """Named stages in a row: float [B, C, H, W] to float [B, feature_dim].

    Args:
        stages: by name, in order.
        feature_dim: length of a feature vector.
        norm: of what is pooled, [B, feature_dim, 1, 1], named as in torchvision's models; None: there is none.

    Attributes:
        feature_dim: length of a feature vector.
        channels_last: whether images and kernels lie in memory with their channels innermost.
        fixed: names of its state that never change, see `make_stand`.
        still: BatchNorms that use their statistics in training, too.
        precision: in which the stages compute (autocast): fp32, bf16 or fp16; features are float32 all the same.
        trunk: how many of its first steps stand still; what they make of an image is always the same.
        reads_trunk: whether what comes in is what the trunk makes of images, see `behind_trunk`.
        trunk_precision: to which that is rounded: fp32, fp16 or bf16.
        trunk_cache: where that is kept, None: nowhere.
    """

    feature_dim: int
    channels_last: bool = False
    precision: str = "fp32"
    fixed: frozenset[str] = frozenset()
    still: tuple[str, ...] = ()
    trunk: int = 0
    reads_trunk: bool = False
    trunk_precision: str = "fp32"
    trunk_cache: "TrunkCache | None" = None

    def __init__(self, stages: dict[str, nn.Module], feature_dim: int, norm: nn.Module | None = None) -> None:
        pooled = {"avgpool": nn.AdaptiveAvgPool2d(1)} | ({"classifier": norm} if norm else {})
        super().__init__(OrderedDict(stages | pooled | {"flatten": nn.Flatten()}))
        self.feature_dim = feature_dim

    def steps(self) -> dict[str, nn.Module]:
        """Return what computes the features, in order: the stages, with what has no weights between them, and pooling.

        A step's name is that of its stage in `stage_names`, where it is one.
        """
        return dict(self.named_children())

    def map_steps(self) -> int:
        """Return how many of the steps come before pooling."""
        return sum(name not in _POOLING for name in self.steps())

    def trunk_state(self) -> list[str]:
        """Return the names of the trunk's weights and statistics, all of them `fixed`, in order."""
        later = tuple(f"{name}." for name in list(self.steps())[self.trunk :])
        return sorted(name for name in self.fixed if not name.startswith(later))

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """Return the last feature map [B, feature_dim, h, w], before pooling."""
        return self.run_steps(images, self.trunk if self.reads_trunk else 0, self.map_steps())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features [B, feature_dim] of images, or of what the trunk made of them."""
        first, maps = self.trunk if self.reads_trunk else 0, self.map_steps()
        return images if first > maps else self.pooled(self.run_steps(images, first, maps))

    def run_steps(self, x: torch.Tensor, first: int, end: int) -> torch.Tensor:
        """Return what some steps before pooling make of their input, in the backbone's precision, as float32."""
        if not first:
            x = self.from_images(x)
        if self.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with self.computing(x):
            for step in list(self.steps().values())[first:end]:
                x = step(x)
        return x.float()

    def from_images(self, images: torch.Tensor) -> torch.Tensor:
        """Return images as the first step takes them."""
        return images

    def pooled(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Return features [B, feature_dim] of what the last step before pooling gives."""
        for step in list(self.steps().values())[self.map_steps() :]:
            feature_map = step(feature_map)
        return feature_map

    def train(self, mode: bool = True) -> "Backbone":
        """Choose train or eval mode; what stands still stays in eval mode."""
        super().train(mode)
        for name in self.still:
            self.get_submodule(name).eval()
        return self

    def computing(self, images: torch.Tensor) -> AbstractContextManager[None]:
        """Return the context in which the stages compute, in the backbone's precision."""
        half = HALF.get(self.precision)
        return torch.autocast(images.device.type, half) if half else nullcontext()

    def stage_names(self) -> tuple[str, ...]:
        """Return the stages with weights, in order."""
        return tuple(name for name, stage in self.named_children() if stage.state_dict())

    def pooling_names(self) -> tuple[str, ...]:
        """Return what has weights behind the stages and is none itself: it trains wherever a stage does."""
        return ()

    def set_format(self, channels_last: bool, precision: str) -> "Backbone":
        """Choose memory format and precision in place; the weights stay what they are."""
        self.channels_last, self.precision = channels_last, precision
        if channels_last:
            self.to(memory_format=torch.channels_last)
        return self


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (Fig. 2): [B, in, H, W] to [B, out, ⌈H/stride⌉, ⌈W/stride⌉]."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels_in, channels_out, stride=stride)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = _convolution(channels_out, channels_out)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut, self.stride = nn.Sequential(), stride
        if stride != 1 or channels_in != channels_out:
            self.shortcut.append(_convolution(channels_in, channels_out, kernel=1))
            self.shortcut.append(nn.BatchNorm2d(channels_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(residual(x) + shortcut(x))."""
        residual: torch.Tensor = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        # A 1×1 convolution of every stride-th pixel. As a strided one, on fewer than 8 channels that lie innermost,
        # PyTorch 2.15 writes past its memory on CPUs without AVX-512.
        return torch.relu(residual + self.shortcut(x[:, :, :: self.stride, :: self.stride]))


def build_backbone(name: str, channels: int, width: int | None = None) -> Backbone:
    """Build a freshly initialised backbone; only here, and from torch's global generator, are weights drawn.

    Args:
        name: a key of `BACKBONES` in `common/architectures.py`, or a library's
            model behind `torchvision:` or `timm:`.
        channels: channels of the images, 1 for grey, 3 for colour.
        width: channels of the first stage; None is the backbone's own (16; `resnet18` and up: 64).

    Raises:
        UserError: unknown name, timm is not installed, or a width that a library's models cannot have.

    Example:
        >>> import torch
        >>> backbone = build_backbone("cnn", channels=1, width=16)
        >>> backbone(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 64])
    """
    if name.startswith(LIBRARIES) and width is not None:
        raise UserError(f"width = {width}: {name} has its own; leave width out")
    if name.startswith(TIMM):
        from common.models.timm_backbones import timm_backbone

        return timm_backbone(name.removeprefix(TIMM))
    if name.startswith(TORCHVISION):
        from common.models.torchvision_backbones import torchvision_backbone  # takes seconds to import

        return torchvision_backbone(name.removeprefix(TORCHVISION))
    module, _, function = _architecture(name).build.partition(":")
    build: Builder = getattr(import_module(module), function)
    return build(channels, width)


def shapes_of(build: Callable[[], Module]) -> Module:
    """Return a model on the meta device: shapes without numbers, of which nothing is drawn or kept."""
    with borrowed_generator():
        try:
            with torch.device("meta"):
                return build()
        except NotImplementedError:  # RegNets find their widths by tensors
            return build().to("meta")


def check_image_size(name: str, size: tuple[int, int]) -> None:
    """Check that images of `size` (H, W), in pixels, survive the backbone's pooling.

    That is so if eval mode takes a batch of any length and train mode a batch of two.

    Raises:
        UserError: unknown name, or a side below the backbone's `min_side`.
    """
    if (smallest := _needed_side(name, size)) is not None:
        raise UserError(
            f"images of {size[0]}×{size[1]} pixels are too small for backbone '{name}', which needs "
            f"{smallest}×{smallest}; set image-size to {smallest} or more, or choose another backbone"
        )


def _needed_side(name: str, size: tuple[int, int]) -> int | None:
    """Return the side that images of a size (H, W) should have; None where they will do as they are."""
    if name.startswith(TIMM):
        from common.models import timm_backbones

        return timm_backbones.needed_side(name.removeprefix(TIMM), size)
    if name.startswith(TORCHVISION):
        from common.models.torchvision_backbones import needed_side

        return needed_side(name.removeprefix(TORCHVISION), size)
    smallest = _architecture(name).min_side
    return smallest if min(size) < smallest else None


def _architecture(name: str) -> Architecture:
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES)
    return BACKBONES[name]


def _convolution(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Build a bias-free, same-padded convolution with Kaiming's normal initialisation (fan out)."""
    layer = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def _activated(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(_convolution(channels_in, channels_out), nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


def cnn(channels: int, width: int | None) -> Backbone:
    """Build three convolutions of w, 2w and 4w channels for tiny images; w is `width`, 16 by itself."""
    w = width or 16
    stages: dict[str, nn.Module] = {
        "stage1": _activated(channels, w),
        "pool1": nn.MaxPool2d(2),
        "stage2": _activated(w, 2 * w),
        "pool2": nn.MaxPool2d(2),
        "stage3": _activated(2 * w, 4 * w),
    }
    return Backbone(stages, feature_dim=4 * w)


def _small_image_resnet(blocks: tuple[int, ...], own_width: int) -> Builder:
    """Return a builder of a ResNet whose stages double the channels and, after the first, halve the map."""

    def build(channels: int, width: int | None) -> Backbone:
        w = width or own_width
        stages: dict[str, nn.Module] = {"stem": _activated(channels, w)}
        before = w
        for i, depth in enumerate(blocks):
            after = w * 2**i
            first = ResidualBlock(before, after, stride=1 if i == 0 else 2)
            rest = [ResidualBlock(after, after, stride=1) for _ in range(depth - 1)]
            stages[f"stage{i + 1}"] = nn.Sequential(first, *rest)
            before = after
        return Backbone(stages, feature_dim=before)

    return build


resnet8 = _small_image_resnet((1, 1, 1), own_width=16)
resnet20 = _small_image_resnet((3, 3, 3), own_width=16)
resnet18 = _small_image_resnet((2, 2, 2, 2), own_width=64)
resnet34 = _small_image_resnet((3, 4, 6, 3), own_width=64)


def resnet50(channels: int, width: int | None) -> Backbone:
    """Return torchvision's ResNet-50, without `fc`, under its own names, on images that have no third channel too."""
    if width not in (None, 64):
        raise UserError(f"width = {width}: resnet50 is torchvision's, whose width is 64; leave width out")
    from torchvision import models  # takes seconds to import, and only needed here

    from common.models.torchvision_backbones import TorchvisionBackbone

    model = models.resnet50(weights=None)
    if channels != 3:
        model.conv1 = _convolution(channels, 64, kernel=7, stride=2)
    return TorchvisionBackbone(model, repeats_grey=False)
