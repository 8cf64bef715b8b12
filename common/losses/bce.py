"""Binary cross-entropy of every label on its own."""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from common.losses.terms import counted, full, image_mean


def bce(logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return −y log σ(z) − (1−y) log(1−σ(z)), summed over labels, averaged over images.

    Args:
        logits: z, float [B, C].
        labels: y, bool [B, C].
        mask: labels that count, bool [B, C]; None: all.

    Raises:
        ValueError: labels or mask are not bool [B, C].

    Example:
        >>> import torch
        >>> round(float(bce(torch.zeros(1, 3), torch.tensor([[True, False, True]]))), 4)  # 3 log 2
        2.0794
    """
    kept = counted(labels, mask, logits.shape)
    z = full(logits)
    return image_mean(binary_cross_entropy_with_logits(z, labels.to(z.dtype), reduction="none"), kept)
