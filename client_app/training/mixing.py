"""Mixup and CutMix: each image of a batch mixed with the one before it, and the losses of their two labels likewise.

Mixup: Zhang et al., ICLR 2018, https://arxiv.org/abs/1710.09412. CutMix: Yun et al., ICCV 2019,
https://arxiv.org/abs/1905.04899. As in torchvision's `transforms.v2`, one λ serves a whole batch; with both keys each
batch is mixed in one of the two ways, at even odds. Images are mixed as the network takes them, after augmentation and
scaling. What the two labels do to a loss is in `LocalContext.of_labels`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from client_app.methods.base import Mixed
from common.config import Experiment

Box = tuple[int, int, int, int]  # top, left, bottom, right, in pixels; the last two are outside


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed.

    Attributes:
        share: λ, how much of each image is its own.
        box: what CutMix takes of the other image; None: Mixup.
    """

    share: float
    box: Box | None = None

    def images(self, batch: Tensor) -> Tensor:
        """Return the mixed images of float [B, C, H, W].

        Example:
            >>> import torch
            >>> Mix(0.75).images(torch.tensor([0.0, 4.0]).view(2, 1, 1, 1)).flatten().tolist()
            [1.0, 3.0]
        """
        other = batch.roll(1, 0)
        if self.box is None:
            return self.share * batch + (1 - self.share) * other
        top, left, bottom, right = self.box
        mixed = batch.clone()
        mixed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
        return mixed

    def labels(self, labels: Tensor) -> Mixed:
        """Return the second labels of a batch with labels [B]."""
        return Mixed(labels.roll(1, 0), self.share)


def draw_mixes(
    experiment: Experiment, parts: Sequence[slice], size: tuple[int, int], rng: np.random.Generator
) -> Mapping[int, Mix]:
    """Draw how each batch of an epoch is mixed, by its first row; nothing where the experiment does not ask for it.

    Args:
        experiment: says `mixup` and `cutmix`.
        parts: the epoch's batches.
        size: (H, W) of the images.
        rng: draws.
    """
    alphas = {"mixup": experiment.train.mixup, "cutmix": experiment.train.cutmix}
    kinds = [kind for kind, alpha in alphas.items() if alpha > 0]
    mixes = {}
    for part in parts if kinds else ():
        kind = kinds[int(rng.integers(len(kinds)))]
        share = float(rng.beta(alphas[kind], alphas[kind]))
        mixes[part.start] = Mix(share) if kind == "mixup" else cut(share, rng.random(), rng.random(), size)
    return mixes


def cut(share: float, down: float, across: float, size: tuple[int, int]) -> Mix:
    """Return CutMix with a rectangle of √(1 − λ) of the sides, cut off at the image's edges (Eq. 2).

    Args:
        share: λ as drawn; that of the result is what is left outside the rectangle.
        down: where its centre is, as a share of the height, in [0, 1).
        across: likewise of the width.
        size: (H, W) of the images.
    """
    height, width = size
    half = math.sqrt(1 - share) / 2
    y, x, rows, columns = int(down * height), int(across * width), int(half * height), int(half * width)
    top, bottom = max(0, y - rows), min(height, y + rows)
    left, right = max(0, x - columns), min(width, x + columns)
    return Mix(1 - (bottom - top) * (right - left) / (height * width), (top, left, bottom, right))
