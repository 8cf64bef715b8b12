"""Class means from exact sums: of each class Σ h and the number of images, in whole steps of a fixed point.

The sums are those of `sums.py` without their squares: bit-equal for any order and any partition of the same images.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.closed_form.sums import MOST_IMAGES, fixed_point, steps_per_unit

ClassSums = npt.NDArray[np.int64]  # [K, D]: of each of K groups Σ h̃ in steps


class FeatureSums:
    """Adds up features, batch by batch.

    Args:
        groups: K; an image may be of several, or of none.
        dim: d, the length of a feature.
        feature_range: as of `sums.ImageSums`.

    Attributes:
        sums: int64 [K, D], D = d + 1.
    """

    def __init__(self, groups: int, dim: int, feature_range: float) -> None:
        self._range = feature_range
        self.sums = torch.zeros(groups, dim + 1, dtype=torch.int64)

    def add(self, features: Tensor, members: Tensor) -> None:
        """Add images.

        Args:
            features: [n, d].
            members: bool [n, K], of which groups each image is.

        Raises:
            RefusalError: a feature that is not finite or beyond the range.
        """
        steps = fixed_point(features, self._range).to(torch.int64)
        for group in members.any(dim=0).nonzero().flatten().tolist():
            self.sums[group] += steps[members[:, group].cpu()].sum(dim=0)


def counts_of(sums: ClassSums, feature_range: float) -> npt.NDArray[np.int64]:
    """Return the images of each group [K]."""
    return np.asarray(sums[:, -1] // _unit(feature_range))


def means_of(sums: ClassSums, feature_range: float) -> npt.NDArray[np.float64]:
    """Return the mean feature of each group [K, d], 0 for a group without images.

    Example:
        >>> sums = FeatureSums(2, 2, 64)
        >>> sums.add(torch.tensor([[1.0, 2.0], [2.0, 4.0]]), torch.tensor([[True, False], [True, False]]))
        >>> means_of(sums.sums.numpy(), 64).tolist()
        [[1.5, 3.0], [0.0, 0.0]]
    """
    counts = np.maximum(counts_of(sums, feature_range), 1)[:, None]
    return np.asarray(sums[:, :-1] / steps_per_unit(feature_range) / counts)


def fault_of(sums: ClassSums, feature_range: float) -> str | None:
    """Return why these can be no sums over images, None if they can."""
    if (sums[:, -1] % _unit(feature_range)).any() or (sums[:, -1] < 0).any():
        return "the last entry of a group is no number of images"
    counts = counts_of(sums, feature_range)
    if counts.max(initial=0) > MOST_IMAGES:
        return f"more than {MOST_IMAGES:,} images of a group"
    most = counts[:, None].astype(np.float64) * feature_range * steps_per_unit(feature_range)
    if (np.abs(sums[:, :-1].astype(np.float64)) > most).any():
        return "an entry is larger than its images' features can make it"
    return None


def _unit(feature_range: float) -> int:
    return int(steps_per_unit(feature_range))
