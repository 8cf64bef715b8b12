"""Whether an experiment starts from pretrained weights, and from which backbone's."""

from dataclasses import dataclass
from pathlib import Path

import torch

from common.architectures import IMAGENET, NO_WEIGHTS, RUN, TORCHVISION
from common.config import build
from common.errors import UserError
from common.models.backbones import build_backbone
from common.models.weights import imagenet_file, load_weights, pin_weights
from common.paths import expand
from server_app.new.look import Sizes

SMALLEST = 64  # pixels a side: ImageNet's backbones halve it five times, which leaves a map of 2×2


@dataclass(frozen=True)
class Recipe:
    """A pretrained backbone, and how it is trained.

    Attributes:
        backbone: by its name in an experiment.
        train_from: its first stage that trains.
        side: pixels a side at most.
        why: of the backbone.
        trains: what of it trains, in words.
    """

    backbone: str
    train_from: str
    side: int
    why: str
    trains: str


@dataclass(frozen=True)
class Pretrained:
    """A recipe with its weights.

    Attributes:
        recipe: for this machine, or the one that the weights are of.
        weights: as the key has it.
        why: where they come from.
    """

    recipe: Recipe
    weights: str
    why: str


_CPU = Recipe(
    "torchvision:mobilenet_v2",
    "features.18",
    128,
    "1280 features; quick on a CPU",
    "the last block, 0.4 of 2.2 million",
)
_GPU = Recipe("torchvision:resnet50", "layer4", 224, "2048 features; for a GPU", "the last stage, 15 of 23.5 million")


def choose_start(weights: str | None, sizes: Sizes | None, device: torch.device) -> Pretrained | None:
    """Return what to start from; None: from nothing, a small backbone.

    Args:
        weights: what the user asks for: imagenet, none, a file, run:FOLDER; None: ImageNet's where images are large
            enough.
        sizes: of the images; None: photographs.
        device: what trains.

    Raises:
        UserError: there is no such file, it cannot be read, or it fits no backbone that is chosen from.
    """
    small = sizes is not None and sizes.median < SMALLEST
    if weights == NO_WEIGHTS or (weights is None and small):
        return None
    mine, other = (_GPU, _CPU) if device.type == "cuda" else (_CPU, _GPU)
    if weights in (None, IMAGENET):
        return Pretrained(mine, IMAGENET, _imagenet(mine))
    assert weights is not None
    path = _absolute(weights)
    return Pretrained(_fitting(path, mine, other), path, "given by --weights")


def _imagenet(recipe: Recipe) -> str:
    file = imagenet_file(recipe.backbone.removeprefix(TORCHVISION))
    if file.path.exists():
        return f"torchvision's, {file.path}"
    return (
        f"the first run fetches {file.megabytes:.0f} MB; without a network: --weights PATH, or --weights {NO_WEIGHTS}"
    )


def _absolute(weights: str) -> str:
    prefix = RUN if weights.startswith(RUN) else ""
    return prefix + str((Path.cwd() / expand(weights.removeprefix(prefix), "--weights")).resolve())


def _fitting(weights: str, *recipes: Recipe) -> Recipe:
    """Return the first recipe whose backbone takes the weights."""
    faults = []
    for recipe in recipes:
        experiment = pin_weights(build({"backbone": recipe.backbone, "weights": weights}, source="--weights"))
        try:
            load_weights(build_backbone(recipe.backbone, 3), experiment)
        except UserError as error:
            faults.append(str(error))
        else:
            return recipe
    if len(set(faults)) == 1:  # of the file, whatever the backbone
        raise UserError(f"--weights: {faults[0]}")
    names = " and ".join(recipe.backbone for recipe in recipes)
    raise UserError(
        f"--weights: {'; '.join(faults)}. `fednc new` chooses among {names}; for another backbone, "
        "write both into the file"
    )
