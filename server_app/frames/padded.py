"""The zero-padded simplex ETF, beside the two frames of `frames.py`.

Three kinds of frame, rows [C, d] are class vectors: zero-padded (here), randomly rotated (`frames.etf`: the
same vectors after a random rotation of R^d, which spreads each over all features), sparse (`frames.sparse_etf`).
The public code of FedNCA-ML (Peng et al. 2025, https://arxiv.org/abs/2509.12544) pads; features past the C-th
then never meet the frame, so rotated is the better default.
"""

import math

import torch
from torch import Tensor

from common.errors import UserError


def padded_etf(num_classes: int, dim: int, frame_norm: float = 1.0) -> Tensor:
    """Build the simplex ETF γ √(C/(C-1)) (I - 11'/C) in the first C features; the others are zero.

    Args:
        num_classes: C, at least 2.
        dim: d, the feature dimension, at least C.
        frame_norm: γ, the norm of every class vector.

    Returns:
        float32 [C, d]; nothing is drawn.

    Raises:
        UserError: fewer than two classes, or fewer features than classes.

    Example:
        >>> frame = padded_etf(3, 5)
        >>> frame.shape, bool((frame[:, 3:] == 0).all())
        (torch.Size([3, 5]), True)
    """
    if num_classes < 2:
        raise UserError(f"a frame needs at least two classes, the data set has {num_classes}: check dataset, data-dir")
    if dim < num_classes:
        raise UserError(
            f"a zero-padded frame of {num_classes} classes needs as many features, the backbone has {dim}: "
            "choose frame = etf, or raise width"
        )
    centring = torch.eye(num_classes, dtype=torch.float64) - 1 / num_classes
    frame = torch.zeros(num_classes, dim, dtype=torch.float64)
    frame[:, :num_classes] = frame_norm * math.sqrt(num_classes / (num_classes - 1)) * centring
    return frame.float()
