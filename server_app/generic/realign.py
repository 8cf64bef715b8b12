"""GA-FR: realignment of the generic head ψ on the coordinator (FedLoGe, ICLR 2024, Eq. 6)."""

from typing import Literal

import torch
from torch import Tensor

from common.losses import prior_logit

BiasMode = Literal["keep", "scale", "drop"]


def realign_generic(weight: Tensor, bias: Tensor | None, bias_mode: BiasMode = "keep") -> tuple[Tensor, Tensor | None]:
    """Scale every class vector of ψ to norm 1: ψ̂_c = ψ_c / ‖ψ_c‖ (FedLoGe, Eq. 6).

    The equation knows no bias. `keep` leaves it, `scale` divides b_c by ‖ψ_c‖ like its row, `drop` zeroes it.
    A zero row stays zero, its bias unscaled.

    Args:
        weight: ψ, [C, d].
        bias: [C], or None for a head without.
        bias_mode: what becomes of the bias.

    Returns:
        New tensors of the same shapes; None where no bias came in.

    Example:
        >>> import torch
        >>> weight, bias = realign_generic(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), None)
        >>> weight.tolist(), bias
        ([[0.6000000238418579, 0.800000011920929], [0.0, 1.0]], None)
    """
    norms: Tensor = torch.linalg.vector_norm(weight, dim=1)
    divisor = torch.where(norms > 0, norms, torch.ones_like(norms))
    realigned = weight / divisor.unsqueeze(1)
    if bias is None:
        return realigned, None
    if bias_mode == "scale":
        return realigned, bias / divisor
    return realigned, torch.zeros_like(bias) if bias_mode == "drop" else bias.clone()


def add_prior(bias: Tensor, positives: Tensor, images: int, temperature: float) -> Tensor:
    """Return biases [C] with the label prior added: b_c + t·logit π̂_c, π̂_c = (n_c + 1)/(N + 2) (FedLoGe-ML).

    A head that learnt with prior-compensated logits knows no prior; its probabilities are calibrated, and 0.5 is
    the threshold it should be cut at, only with one. Shifting a class's logits does not change its AUC.

    Args:
        bias: [C].
        positives: n, images with each label, [C].
        images: N.
        temperature: t, as in training.
    """
    return bias + temperature * prior_logit(positives, images)
