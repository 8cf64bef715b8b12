"""A site's figures: how many of its own test images a head gets right."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


@torch.no_grad()
def hits(head: nn.Linear, features: Tensor, labels: Tensor, present: npt.NDArray[np.bool_] | None = None) -> int:
    """Count correct predictions of a head on features [n, d] with labels [n].

    Args:
        present: classes [C] in the site's training data; where given, the others are never predicted.
    """
    if not len(labels):
        return 0
    logits = head(features)
    if present is not None:
        logits[:, ~torch.from_numpy(present).to(logits.device)] = -torch.inf
    return int((logits.argmax(dim=1) == labels).sum())
