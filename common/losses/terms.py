"""What every multi-label loss does first and last: check its inputs, and reduce its terms."""

import torch
from torch import Tensor


def full(values: Tensor) -> Tensor:
    """Return half-precision values as float32, others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def counted(labels: Tensor, mask: Tensor | None, shape: torch.Size) -> Tensor:
    """Return the labels that count, bool [B, C]: `mask`, or all of them.

    Args:
        labels: bool [B, C].
        mask: bool [B, C], or None.
        shape: [B, C] of the scores that the labels belong to.

    Raises:
        ValueError: labels or mask are not bool, or of another shape.
    """
    for name, given in (("labels", labels), ("mask", labels if mask is None else mask)):
        if given.dtype != torch.bool or given.shape != shape:
            raise ValueError(f"{name}: {given.dtype} {tuple(given.shape)} where bool {tuple(shape)} is needed")
    return torch.ones_like(labels) if mask is None else mask


def image_mean(terms: Tensor, kept: Tensor) -> Tensor:
    """Return the scalar mean over images of the sum of each image's terms [B, C] where `kept` [B, C]."""
    return torch.where(kept, terms, 0).sum() / max(len(terms), 1)
