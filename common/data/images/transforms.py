"""Pixels to network input; vectorised on the batch's device."""

from collections.abc import Sequence

import torch


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
