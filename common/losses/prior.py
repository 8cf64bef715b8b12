"""Prior-compensated logits: the multi-label form of logit adjustment.

For softmax classifiers: Menon et al., ICLR 2021, https://arxiv.org/abs/2007.07314, Eq. 10. For C sigmoids the
site's log-odds of each label take the place of its log-prior: trained on z + t·logit π̃, the bare z carries no
prior where t = 1, and is what sites with different priors can share.
"""

import torch
from torch import Tensor

from common.losses.terms import full


def prior_logit(class_counts: Tensor, num_images: Tensor | int) -> Tensor:
    """Return logit π̃ [C] with π̃_c = (n_c + 1) / (N + 2), finite even for a label that none or all images have.

    Args:
        class_counts: n, the site's training images with each label, [C].
        num_images: N, its training images; or [C], where some labels are known for fewer of them.

    Raises:
        ValueError: a label has more images than there are.

    Example:
        >>> [round(odds, 3) for odds in prior_logit(torch.tensor([1, 4]), 5).exp().tolist()]  # (n + 1) / (N − n + 1)
        [0.4, 2.5]
    """
    positives = class_counts.float()
    negatives = num_images - positives
    if bool((negatives < 0).any()):
        raise ValueError(f"class counts {class_counts.tolist()} exceed the number of images")
    return torch.log(positives + 1) - torch.log(negatives + 1)


def compensated(logits: Tensor, prior: Tensor, temperature: float = 1.0) -> Tensor:
    """Return z + t·logit π̃, [B, C], in full precision, for any loss of several labels.

    Args:
        logits: z, float [B, C].
        prior: logit π̃ [C], from `prior_logit`.
        temperature: t; 0 leaves z as it is.

    Example:
        >>> compensated(torch.zeros(1, 2), torch.tensor([-1.0, 1.0]), 0.5).tolist()
        [[-0.5, 0.5]]
    """
    return full(logits) + temperature * prior
