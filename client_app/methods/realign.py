"""LA-FR: realignment of a site's personal head φ_k from the global ψ (FedLoGe, ICLR 2024, Eq. 7)."""

from typing import Literal

import torch
from torch import Tensor

Mode = Literal["paper", "sum", "product", "distribution", "none"]
BiasMode = Literal["keep", "scale", "drop"]


def realign_personal(
    aux_weight: Tensor,
    aux_bias: Tensor | None,
    personal_weight: Tensor,
    personal_bias: Tensor | None,
    mode: Mode = "paper",
    bias_mode: BiasMode = "keep",
    shares: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Give ψ's class directions the norms of φ_k: φ̂_kc = (ψ_c / ‖ψ_c‖) ‖φ_kc‖ (FedLoGe, Eq. 7).

    Modes: `paper` is the equation; `product` is ψ_c ‖φ_kc‖, undivided, as in the authors' public code; `sum`
    adds φ_k to the equation's head (their prediction adds the two heads' logits, which is one head with
    added weights and biases); `distribution` has the site's class shares in place of φ_k's norms,
    φ̂_kc = (ψ_c / ‖ψ_c‖) · n_kc/N_k: our reading of "local distribution" in FedLoGe's Table 7, since we know of no
    formula for it in the paper; `none` returns φ_k.

    The equation knows no bias. Bias of the realigned head: `keep` takes φ_k's, `scale` takes ψ's, scaled like
    its row, `drop` is zero. `sum` then adds φ_k's own bias, which the second head brings: with `keep` that is
    twice φ_k's. Where ψ_c is zero the realigned row is zero, and `scale` leaves ψ's bias unscaled unless the
    mode is `product`.

    Args:
        aux_weight: ψ, [C, d].
        aux_bias: ψ's bias, [C], or None.
        personal_weight: φ_k, [C, d].
        personal_bias: φ_k's bias, [C]; None exactly where `aux_bias` is.
        mode: which form of the realignment.
        bias_mode: what becomes of the bias.
        shares: n_kc/N_k, which share of the site's training images has each class, [C]; `distribution` alone
            reads it.

    Returns:
        New tensors of the same shapes; None where no bias came in.

    Raises:
        ValueError: shapes differ, only one of the two heads has a bias, or `distribution` has no shares.

    Example:
        >>> psi, phi = torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]])
        >>> weight, _ = realign_personal(psi, None, phi, None)
        >>> weight.tolist()  # directions of ψ, norms 5 and 1 of φ_k
        [[5.0, 0.0], [0.0, 1.0]]
    """
    if aux_weight.shape != personal_weight.shape or (aux_bias is None) != (personal_bias is None):
        raise ValueError("global and personal head must agree in shape and in having a bias")
    if mode == "none":
        return personal_weight.clone(), None if personal_bias is None else personal_bias.clone()
    norms: Tensor | None = shares if mode == "distribution" else torch.linalg.vector_norm(personal_weight, dim=1)
    if norms is None or norms.shape != aux_weight.shape[:1]:
        raise ValueError("mode 'distribution' needs the share of each class")
    gain = norms if mode == "product" else _gain(aux_weight, norms)
    weight = aux_weight * gain.unsqueeze(1)
    bias = None
    if aux_bias is not None and personal_bias is not None:
        bias = {
            "keep": personal_bias.clone(),
            "scale": aux_bias * gain,
            "drop": torch.zeros_like(personal_bias),
        }[bias_mode]
    if mode == "sum":
        weight = weight + personal_weight
        bias = None if bias is None or personal_bias is None else bias + personal_bias
    return weight, bias


def _gain(aux_weight: Tensor, norms: Tensor) -> Tensor:
    """Return what scales each ψ_c to its new norm, 1 where ψ_c = 0; shape [C]."""
    aux: Tensor = torch.linalg.vector_norm(aux_weight, dim=1)
    one = torch.ones_like(aux)
    return torch.where(aux > 0, norms / torch.where(aux > 0, aux, one), one)
