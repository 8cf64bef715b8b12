"""Negative suppression of FedNCA-ML (Peng et al. 2025, https://arxiv.org/abs/2509.12544)."""

import torch
from torch import Tensor

from common.losses.terms import counted, full


def negative_suppression(scores: Tensor, labels: Tensor, mask: Tensor | None = None, margin: float = 0.3) -> Tensor:
    """Return max(0, σ(v) − margin) over the batch's hardest negatives, summed, divided by the number of images.

    v_bc = max_j Z[b, c, j]: the feature of a class that an image lacks should resemble no class at all. As
    many negatives (b, c) count as the batch has positives, those with the largest v; all of them if there are
    fewer. So a batch without positives costs nothing. The paper weighs this loss by 0.01.

    Args:
        scores: Z, float [B, C, C], from `ladm.PerClassHead`; or [B, C, 1], a class's own score alone.
        labels: bool [B, C].
        mask: labels that count, bool [B, C]; None: all. A hidden label is neither positive nor negative.
        margin: a probability below which a score does no harm.

    Raises:
        ValueError: labels or mask are not bool [B, C].

    Example:
        >>> scores = torch.zeros(1, 2, 2)  # σ(0) = .5, .2 above the margin
        >>> round(float(negative_suppression(scores, torch.tensor([[True, False]]))), 4)
        0.2
    """
    kept = counted(labels, mask, scores.shape[:2])
    best = full(scores).amax(dim=2)
    hardest = best.masked_fill(labels | ~kept, -torch.inf).flatten().sort(descending=True).values
    # Counted without leaving the device; positives at the end (−inf) cost nothing.
    taken = torch.arange(len(hardest), device=hardest.device) < (labels & kept).sum()
    excess = (torch.sigmoid(hardest) - margin).clamp(min=0)
    return torch.where(taken, excess, 0).sum() / max(len(labels), 1)
