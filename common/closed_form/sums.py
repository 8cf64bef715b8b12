"""Exact sums over images: of each group of them G = Σ h̃h̃ᵀ, with h̃ = (h, 1) a feature and a constant.

G holds all that ridge regression and class means need: Σ hhᵀ, Σ h in its last column, and the number of images in its
last entry (Fanì et al., ICML 2024, https://arxiv.org/abs/2406.01116, Eqs. 5-6). Features are rounded to a fixed point,
so that sums are sums of integers: bit-equal for any order and any partition of the same images, and a site's part can
be subtracted again without a trace.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from common.errors import RefusalError

Packed = npt.NDArray[np.int64]  # [K, D(D + 1)/2]: of each of K groups the upper half of G, row by row

_BITS = 21  # of a feature's magnitude: its square has 42
MOST_IMAGES = 1 << (63 - 2 * _BITS)  # whose squares int64 holds
_BLOCK = 1 << (53 - 2 * _BITS)  # rows whose products float64 adds up exactly


def steps_per_unit(feature_range: float) -> float:
    """Return how many steps of the fixed point are 1: features between ± the range have 21 bits.

    Args:
        feature_range: a power of two, 1 or more.
    """
    return (1 << _BITS) / feature_range


def packed_length(dim: int) -> int:
    """Return the length of the upper half of a symmetric matrix [dim, dim]."""
    return dim * (dim + 1) // 2


class ImageSums:
    """Adds up images, batch by batch.

    Args:
        groups: K; an image may be of several, or of none.
        dim: d, the length of a feature.
        feature_range: R, a power of two: features are rounded to multiples of R·2⁻²¹.
    """

    def __init__(self, groups: int, dim: int, feature_range: float) -> None:
        self._range = feature_range
        self._sums = torch.zeros(groups, dim + 1, dim + 1, dtype=torch.int64)

    def add(self, features: Tensor, members: Tensor) -> None:
        """Add images.

        Args:
            features: [n, d].
            members: bool [n, K], of which groups each image is.

        Raises:
            RefusalError: a feature that is not finite or beyond the range.
        """
        steps = fixed_point(features, self._range)
        for start in range(0, len(steps), _BLOCK):
            block, of_block = steps[start : start + _BLOCK], members[start : start + _BLOCK].cpu()
            for group in of_block.any(dim=0).nonzero().flatten().tolist():
                rows = block[of_block[:, group]]
                self._sums[group] += (rows.T @ rows).to(torch.int64)

    def packed(self) -> Packed:
        """Return the upper halves of the sums."""
        return np.stack([group[_upper(len(group))] for group in self._sums.numpy()])


def fixed_point(features: Tensor, feature_range: float) -> Tensor:
    """Return (h, 1) of features [n, d] in whole steps, float64 [n, d + 1].

    Raises:
        RefusalError: a feature that is not finite or beyond the range.
    """
    largest = features.abs().max().item() if features.numel() else 0.0
    if not largest <= feature_range:  # nor nan
        raise RefusalError(
            f"a feature of {largest:g} is beyond feature-range {feature_range:g}: "
            + (
                "choose a larger one (with head-start: head-start-range)"
                if math.isfinite(largest)
                else "an image, or the weights, are damaged"
            )
        )
    return (pad(features.double().cpu(), (0, 1), value=1.0) * steps_per_unit(feature_range)).round()


@dataclass(frozen=True)
class GroupSums:
    """Sums of groups of images in the units of their features.

    Attributes:
        packed: [K, D(D + 1)/2] in squared steps.
        feature_range: as of `ImageSums`.
    """

    packed: Packed
    feature_range: float

    @property
    def dim(self) -> int:
        """D, the length of a feature and the constant."""
        return (math.isqrt(8 * self.packed.shape[1] + 1) - 1) // 2

    @property
    def _unit(self) -> float:
        return steps_per_unit(self.feature_range) ** 2

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Images of each group [K]."""
        return self.packed[:, -1] // int(self._unit)

    def gram(self, group: int) -> Tensor:
        """Return G of a group, float64 [D, D]."""
        return unpacked(self.packed[group]) / self._unit


def unpacked(upper: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> Tensor:
    """Return the symmetric matrix, float64 [D, D], of its upper half [D(D + 1)/2]."""
    dim = (math.isqrt(8 * len(upper) + 1) - 1) // 2
    matrix = np.zeros((dim, dim))
    matrix[_upper(dim)] = upper
    return torch.from_numpy(np.where(_upper(dim), matrix, matrix.T))


def packed_half(matrix: Tensor) -> npt.NDArray[np.float64]:
    """Return the upper half [D(D + 1)/2] of a symmetric matrix [D, D]."""
    return np.asarray(matrix.numpy()[_upper(len(matrix))])


@lru_cache(maxsize=4)
def _upper(dim: int) -> npt.NDArray[np.bool_]:
    """Return which entries of a matrix [dim, dim] are of its upper half."""
    return np.triu(np.ones((dim, dim), np.bool_))


def fault_of(packed: Packed, feature_range: float) -> str | None:
    """Return why these can be no sums over images, None if they can.

    Args:
        packed: [K, D(D + 1)/2], as they came.
        feature_range: as of `ImageSums`.
    """
    sums, unit = GroupSums(packed, feature_range), int(steps_per_unit(feature_range) ** 2)
    if (packed[:, -1] % unit).any() or (packed[:, -1] < 0).any():
        return "the last entry of a group is no number of images"
    if sums.counts.max(initial=0) > MOST_IMAGES:
        return f"more than {MOST_IMAGES:,} images of a group"
    most = sums.counts[:, None].astype(np.float64) * float(1 << 2 * _BITS)
    if (np.abs(packed.astype(np.float64)) > most).any():
        return "an entry is larger than its images' features can make it"
    diagonal = np.cumsum([0, *range(sums.dim, 1, -1)])
    means = packed[:, diagonal + np.arange(sums.dim - 1, -1, -1)].astype(np.float64)  # the last column
    squares = packed[:, diagonal].astype(np.float64)
    if (squares * packed[:, -1:] < means**2 * (1 - 1e-9)).any():
        return "a mean of squares is below the square of the mean"
    return None
