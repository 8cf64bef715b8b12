"""Focal loss (Lin et al., ICCV 2017, https://arxiv.org/abs/1708.02002), Eq. 5."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from common.losses.terms import counted, full, image_mean


def focal(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
) -> Tensor:
    """Return −α_t (1−p_t)^γ log p_t, summed over labels, averaged over images; p_t is the true answer's share.

    Args:
        logits: float [B, C].
        labels: bool [B, C].
        mask: labels that count, bool [B, C]; None: all.
        gamma: γ ≥ 0, how much easy labels are held down; 0: not at all.
        alpha: weight of positives, 1 − α that of negatives; None: both weigh 1.

    Raises:
        ValueError: labels or mask are not bool [B, C].

    Example:
        >>> import torch
        >>> logits, labels = torch.zeros(1, 1), torch.tensor([[True]])
        >>> round(float(focal(logits, labels, gamma=0.0)), 4)  # γ = 0: α log 2 with α = .25
        0.1733
    """
    kept = counted(labels, mask, logits.shape)
    z = full(logits)
    true = torch.where(labels, z, -z)
    # (1−p)^γ as an exponential: a power's slope is infinite at 0 for γ < 1.
    terms = -(gamma * logsigmoid(-true)).exp() * logsigmoid(true)
    if alpha is not None:
        terms = terms * torch.where(labels, alpha, 1 - alpha)
    return image_mean(terms, kept)
