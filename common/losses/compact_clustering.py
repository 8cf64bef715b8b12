"""Compact clustering of FedNCA-ML (Peng et al. 2025, https://arxiv.org/abs/2509.12544)."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

from common.losses.terms import counted, full, image_mean


def compact_clustering(
    features: Tensor, labels: Tensor, frame: Tensor, mask: Tensor | None = None, temperature: float = 0.07
) -> Tensor:
    """Return −log softmax_j(cos(h_bc, w_j) / τ) at j = c of all positives, summed over labels, averaged over images.

    The feature of a class that an image has is drawn to its own class vector and away from the others. The
    paper weighs this loss by 1.

    Args:
        features: h, float [B, C, D], from `ladm.LabelAwareAttention`.
        labels: bool [B, C].
        frame: w, [C, D] class vectors; a fixed frame needs no gradient, learned ones get theirs.
        mask: labels that count, bool [B, C]; None: all.
        temperature: τ.

    Raises:
        ValueError: labels or mask are not bool [B, C].

    Example:
        >>> frame = torch.eye(2)
        >>> there = torch.tensor([[True, True]])
        >>> round(float(compact_clustering(frame.unsqueeze(0), there, frame, temperature=1.0)), 4)  # 2 log(1 + 1/e)
        0.6265
    """
    kept = counted(labels, mask, features.shape[:2])
    # autocast would take the product to half precision again
    with torch.autocast(features.device.type, enabled=False):
        h = full(features)
        # A feature of zeros has no direction: its cosines are 0, and so is its gradient.
        h = torch.where(h.any(dim=2, keepdim=True), normalize(h, dim=2), 0)
        cosines = h @ normalize(frame.to(h.dtype), dim=1).T
        own = log_softmax(cosines / temperature, dim=2).diagonal(dim1=1, dim2=2)
    return image_mean(-own, labels & kept)
