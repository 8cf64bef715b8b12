"""Asymmetric loss (Ridnik et al., ICCV 2021, https://arxiv.org/abs/2009.14119), Eqs. 4-7."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from common.losses.terms import counted, full, image_mean


def asymmetric(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    gamma_positive: float = 0.0,
    gamma_negative: float = 4.0,
    margin: float = 0.05,
) -> Tensor:
    """Return focal terms with a focus of their own for negatives, the easiest of which are dropped.

    With p = σ(z): −(1−p)^γ₊ log p for positives; −p_m^γ₋ log(1−p_m) with p_m = max(p − m, 0) for negatives.
    Summed over labels, averaged over images.

    Args:
        logits: z, float [B, C].
        labels: bool [B, C].
        mask: labels that count, bool [B, C]; None: all.
        gamma_positive: γ₊ ≥ 0.
        gamma_negative: γ₋, 0 or at least 1.
        margin: m in [0, 1); negatives below this probability cost nothing.

    Raises:
        ValueError: labels or mask are not bool [B, C], or γ₋ lies between 0 and 1, where the slope at p = m
            is infinite.
    """
    if 0 < gamma_negative < 1:
        raise ValueError(f"gamma_negative = {gamma_negative:g}: must be 0 or at least 1")
    kept = counted(labels, mask, logits.shape)
    z = full(logits)
    positive = -(gamma_positive * logsigmoid(-z)).exp() * logsigmoid(z)
    shifted = (torch.sigmoid(z) - margin).clamp(min=0)
    # Without a margin, 1 − p rounds to 0 where its logarithm is still finite.
    log_rest = torch.log1p(-shifted) if margin else logsigmoid(-z)
    negative = -(shifted**gamma_negative) * log_rest
    return image_mean(torch.where(labels, positive, negative), kept)
