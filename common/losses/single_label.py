"""The losses of images with one label each, means over the batch: cross-entropy, smoothed, or focal.

A logit of −∞ (of a class that a site does not have, where its prior is added) takes no part: its class costs nothing.
"""

from torch import Tensor
from torch.nn.functional import cross_entropy

from common.losses.terms import full


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return (1 − ε) CE(z, y) + ε times the mean of −log p_c over classes (Szegedy et al., CVPR 2016, section 7).

    The mean is over the classes whose logit is finite, all of them as a rule: this is PyTorch's `label_smoothing` then.

    Args:
        logits: z, float [B, C].
        labels: class indices [B].
        smoothing: ε in [0, 1); 0: the cross-entropy.
    """
    if not smoothing:
        return cross_entropy(logits, labels)
    finite, log_shares = logits.isfinite(), full(logits).log_softmax(dim=1)
    spread = -log_shares.where(finite, 0.0).sum(dim=1) / finite.sum(dim=1)
    return (1 - smoothing) * cross_entropy(logits, labels) + smoothing * spread.mean()


def focal_cross_entropy(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return −(1 − p_y)^γ log p_y (Lin et al., ICCV 2017, https://arxiv.org/abs/1708.02002, Eq. 4).

    Args:
        logits: float [B, C].
        labels: class indices y [B].
        gamma: γ ≥ 0, how much easy images are held down; 0: not at all, the cross-entropy.

    Example:
        >>> import torch
        >>> round(float(focal_cross_entropy(torch.zeros(1, 2), torch.tensor([0]), gamma=2.0)), 4)  # log 2 / 4
        0.1733
    """
    own = cross_entropy(full(logits), labels, reduction="none")
    rest = -(-own).expm1()  # 1 − p, exact where p is nearly 1
    # a power's slope is infinite at 0 for γ < 1
    return ((gamma * rest.clamp(min=1e-30).log()).exp() * own).mean()
