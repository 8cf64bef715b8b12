"""The table of backbones, a row each: what a configuration may name, without importing what builds it."""

from dataclasses import dataclass

_HERE = "common.models.backbones"
TORCHVISION = "torchvision:"  # before the name of any of its classification models, which it knows itself
TIMM = "timm:"  # before the name of any model of timm's
LIBRARIES = (TORCHVISION, TIMM)
NO_WEIGHTS, IMAGENET, RUN = "none", "imagenet", "run:"  # `weights`, where it is no file


@dataclass(frozen=True)
class Architecture:
    """One backbone.

    Attributes:
        build: 'module:function', of (channels of the images, width or None) to a freshly initialised `Backbone`.
        min_side: pixels; the smallest height and width of images that the backbone takes.
        fixed_width: the only width that a backbone of torchvision has, 0 where none has a meaning; None: any.
        large: whether it is slow to train without a GPU.
    """

    build: str
    min_side: int = 1  # a padded convolution with a stride leaves at least one pixel
    fixed_width: int | None = None
    large: bool = False


BACKBONES: dict[str, Architecture] = {
    "cnn": Architecture(f"{_HERE}:cnn", min_side=4),  # halved twice by pooling without padding
    "resnet8": Architecture(f"{_HERE}:resnet8"),
    "resnet20": Architecture(f"{_HERE}:resnet20"),
    "resnet18": Architecture(f"{_HERE}:resnet18", large=True),
    "resnet34": Architecture(f"{_HERE}:resnet34", large=True),
    "resnet50": Architecture(f"{_HERE}:resnet50", fixed_width=64, large=True),
}


def architecture(name: str) -> Architecture:
    """Return the row of a backbone; one that a library has under its prefix needs none of its own here."""
    return BACKBONES[name] if name in BACKBONES else Architecture("", fixed_width=0, large=True)
