"""Pixels to network input, and augmentation; vectorised on the batch's device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

Augmentation = Literal["none", "flip", "crop-flip"]

_PADDING = 4  # pixels, the customary amount for 32×32 images


class Scaling:
    """Pixels to network input, for many batches: mean and standard deviation are sent to the device once.

    They belong to the loop that made it and not to the process: a tensor that is made while a graph is traced
    serves nobody afterwards.

    Args:
        mean: of a channel's pixels in 0..1, one value for all channels or one each; three make three
            channels of grey pixels.
        std: likewise.
        device: of the network.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device | str) -> None:
        self._device = device
        self._mean, self._std = (
            torch.tensor(tuple(values), dtype=torch.float32, device=device).view(1, -1, 1, 1) for values in (mean, std)
        )

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Move uint8 [B, C, H, W] to the device and return float32 (x/255 − mean)/std, per channel."""
        return (batch.to(self._device).float() / 255 - self._mean) / self._std


def prepare(
    batch: torch.Tensor, mean: Sequence[float], std: Sequence[float], device: torch.device | str
) -> torch.Tensor:
    """Return one batch as network input; see `Scaling`."""
    return Scaling(mean, std, device)(batch)


@dataclass(frozen=True)
class Draws:
    """What chance decided for n images.

    Attributes:
        flips: bool [n].
        shifts: [2, n], top and left in the padded image; None: they stay where they are.
    """

    flips: torch.Tensor
    shifts: torch.Tensor | None

    def to(self, device: torch.device | str) -> "Draws":
        """Return them on a device."""
        return Draws(self.flips.to(device), None if self.shifts is None else self.shifts.to(device))

    def cut(self, part: slice) -> "Draws":
        """Return those of a slice of the images."""
        return Draws(self.flips[part], None if self.shifts is None else self.shifts[:, part])


def draw(kind: Augmentation, sizes: Sequence[int], generator: torch.Generator) -> Draws | None:
    """Draw the augmentation of batches of these sizes, one batch after the other; None for 'none'.

    Args:
        kind: 'flip': each image left to right with probability ½; 'crop-flip': each also cut from itself with 4 pixels
            of padding.
        sizes: images a batch.
        generator: a CPU generator; drawing on the CPU gives the same augmentation on every device.
    """
    if kind == "none" or not sizes:
        return None
    flips, shifts = [], []
    for size in sizes:
        flips.append(torch.rand(size, generator=generator) < 0.5)
        if kind == "crop-flip":
            shifts.append(torch.randint(0, 2 * _PADDING + 1, (2, size), generator=generator))
    return Draws(torch.cat(flips), torch.cat(shifts, dim=1) if shifts else None)


def augment(batch: torch.Tensor, draws: Draws | None) -> torch.Tensor:
    """Crop and flip each image as drawn, filling with zeros.

    Apply it to uint8 pixels, before `Scaling`: the padding is then black, as in the customary CIFAR recipe.

    Args:
        batch: [B, C, H, W], any dtype, any device.
        draws: of its images, on its device.
    """
    if draws is None:
        return batch
    if draws.shifts is not None:
        batch = _crop(batch, draws.shifts)
    return torch.where(draws.flips.view(-1, 1, 1, 1), batch.flip(-1), batch)


def _crop(batch: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Cut [B, C, H, W] from the padded batch at `shifts` [2, B] (top, left)."""
    size, channels, height, width = batch.shape
    padded = functional.pad(batch, (_PADDING,) * 4)
    device = batch.device
    rows = (shifts[0].view(-1, 1) + torch.arange(height, device=device)).view(size, 1, height, 1)
    columns = (shifts[1].view(-1, 1) + torch.arange(width, device=device)).view(size, 1, 1, width)
    images = torch.arange(size, device=device).view(-1, 1, 1, 1)
    return padded[images, torch.arange(channels, device=device).view(1, -1, 1, 1), rows, columns]
