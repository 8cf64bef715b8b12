"""Distribution-balanced loss (Wu et al., ECCV 2020, https://arxiv.org/abs/2007.09654).

Re-balanced weighting (its section 3.1) and negative-tolerant regularisation (3.2), together L_DB. The paper's
factor 1/C is left out: all losses here have one scale.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from common.losses.terms import counted, full, image_mean


def distribution_balanced(
    logits: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    num_images: int,
    mask: Tensor | None = None,
    gamma: float = 0.0,
    alpha: float = 0.1,
    beta: float = 10.0,
    mu: float = 0.3,
    lam: float = 5.0,
    kappa: float = 0.05,
) -> Tensor:
    """Return r̂ [y log(1+e^−u) + (1−y)/λ log(1+e^λu)] with u = z − ν, summed over labels, averaged over images.

    The weight is r̂ = α + σ(β(r − μ)) with r_bc = (1/n_c) / Σ_{y_bj = 1} 1/n_j; an image without a label has
    infinite r, hence r̂ = α + 1. The class's own bias is ν_c = −κ b_c with b_c = −log(N/n_c − 1). The defaults
    are those of the paper's code for long-tailed VOC (COCO: μ = 0.2, λ = 2).

    Args:
        logits: z, float [B, C].
        labels: y, bool [B, C].
        class_counts: n, training images with each label, [C]; taken as 1 … N−1, so that b is finite.
        num_images: N ≥ 2, training images.
        mask: labels that count, bool [B, C]; None: all. A hidden label weighs in no image's r.
        gamma: focus on hard labels, as in the paper's DB-focal; 0: none.
        alpha: α, what every label weighs at least.
        beta: β, steepness of the weight.
        mu: μ, the r at which the weight is half way.
        lam: λ > 0; negatives below ν soon cost nothing.
        kappa: κ ≥ 0, share of the bias.

    Raises:
        ValueError: labels or mask are not bool [B, C], or N < 2.
    """
    if num_images < 2:
        raise ValueError(f"{num_images} images have no positive and negative of a label; at least 2 are needed")
    kept = counted(labels, mask, logits.shape)
    z = full(logits)
    counts = class_counts.to(z.dtype).clamp(1, num_images - 1)
    rarity = 1 / counts
    image_rarity = (rarity * (labels & kept)).sum(dim=1, keepdim=True)
    rebalanced = rarity / image_rarity.clamp(min=1e-30)  # as good as infinite, and 0 times it is 0
    weight = alpha + torch.sigmoid(beta * (rebalanced - mu))
    u = z - kappa * torch.log(num_images / counts - 1)
    true = torch.where(labels, u, -lam * u)
    terms = -(gamma * logsigmoid(-true)).exp() * logsigmoid(true)
    return image_mean(weight * torch.where(labels, terms, terms / lam), kept)
