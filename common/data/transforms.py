"""Pixels to network input, and augmentation; vectorised on the batch's device."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch.nn import functional

_PADDING = 4  # pixels, the customary amount for 32×32 images


def prepare(
    batch: torch.Tensor, mean: Sequence[float], std: Sequence[float], device: torch.device | str
) -> torch.Tensor:
    """Move uint8 [B, C, H, W] to the device and return float32 (x/255 − mean)/std, per channel."""
    moved = batch.to(device)
    means, stds = (_per_channel(tuple(values), moved.device) for values in (mean, std))
    return (moved.float() / 255 - means) / stds


@lru_cache(maxsize=16)
def _per_channel(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Return values as [1, C, 1, 1], put on the device once."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)


def augment(
    batch: torch.Tensor, kind: Literal["none", "flip", "crop-flip"], generator: torch.Generator
) -> torch.Tensor:
    """Flip each image left to right with probability ½, and shift it by up to 4 pixels, filling with zeros.

    Apply it to uint8 pixels, before `prepare`: the padding is then black, as in the customary CIFAR recipe.

    Args:
        batch: [B, C, H, W], any dtype, any device.
        kind: 'none' returns the batch; 'flip'; 'crop-flip': crop from the padded image, then flip.
        generator: a CPU generator; drawing on the CPU gives the same augmentation on every device.
    """
    if kind == "none":
        return batch
    flips = torch.rand(len(batch), generator=generator) < 0.5
    if kind == "crop-flip":
        shifts = torch.randint(0, 2 * _PADDING + 1, (2, len(batch)), generator=generator)
        batch = _crop(batch, shifts.to(batch.device))
    return torch.where(flips.to(batch.device).view(-1, 1, 1, 1), batch.flip(-1), batch)


def _crop(batch: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Cut [B, C, H, W] from the padded batch at `shifts` [2, B] (top, left)."""
    size, channels, height, width = batch.shape
    padded = functional.pad(batch, (_PADDING,) * 4)
    device = batch.device
    rows = (shifts[0].view(-1, 1) + torch.arange(height, device=device)).view(size, 1, height, 1)
    columns = (shifts[1].view(-1, 1) + torch.arange(width, device=device)).view(size, 1, 1, width)
    images = torch.arange(size, device=device).view(-1, 1, 1, 1)
    return padded[images, torch.arange(channels, device=device).view(1, -1, 1, 1), rows, columns]
