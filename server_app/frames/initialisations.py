"""Sparsified random matrices as fixed classifiers, for FedLoGe's Table 9: what the sparse ETF is compared with."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from server_app.frames.masks import draw_mask

# as torch.nn.init draws them with its default arguments, each at its own scale
INITIALISATIONS: dict[str, Callable[..., Tensor]] = {
    "xavier": nn.init.xavier_uniform_,
    "gaussian": nn.init.normal_,
    "uniform": nn.init.uniform_,
    "orthogonal": nn.init.orthogonal_,
    "kaiming": nn.init.kaiming_uniform_,
}


def sparse_random(kind: str, num_classes: int, dim: int, generator: torch.Generator, sparsity: float) -> Tensor:
    """Draw a classifier with `torch.nn.init`, and set round(sparsity d C) of its entries to zero.

    Its class vectors keep the norms that they were drawn with, `frame-norm` does not apply: rescaled to one norm,
    Xavier's and Kaiming's would come from one distribution.

    Args:
        kind: a key of `INITIALISATIONS`.
        num_classes: C.
        dim: d, the feature dimension.
        generator: the only source of randomness.
        sparsity: share of zeros, in [0, 1).

    Returns:
        float32 [C, d].

    Raises:
        UserError: the sparsity leaves fewer entries than classes.
    """
    drawn = INITIALISATIONS[kind](torch.empty(num_classes, dim), generator=generator)
    return drawn * draw_mask(num_classes, dim, sparsity, generator).T.float()
