"""A site's personal head: its own sums weighed in beside those of all sites, and by how much (ours).

W_k = (G + βG_k + λI)⁻¹(B + βB_k). Which β is best the site asks its own training images: each of five parts of them,
whole patients, is left out of G and of G_k in turn, and predicted by what is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.closed_form.ridge import Equations, System, equations, members_of, solve_all
from common.closed_form.sums import GroupSums, ImageSums

SHARES = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0)  # of β
_PARTS = 5


@dataclass(frozen=True)
class SiteImages:
    """A site's training images as features.

    Attributes:
        features: [n, d].
        labels: class indices [n], or several labels as bool [n, C].
        groups: [n] the patient (or lesion) of each image.
        visible: of several labels, those that the site knows, bool [C]; None: all.
    """

    features: Tensor
    labels: Tensor
    groups: npt.NDArray[np.int64]
    visible: Tensor | None = None

    def sums(self, rows: Tensor, num_classes: int, feature_range: float) -> GroupSums:
        """Return the sums over some of the images, by the groups of `systems_of`."""
        members = members_of(self.labels[rows], num_classes, self.visible)
        sums = ImageSums(members.shape[1], self.features.shape[1], feature_range)
        sums.add(self.features[rows], members)
        return GroupSums(sums.packed(), feature_range)


@dataclass(frozen=True)
class Pooled:
    """What the coordinator sends of all sites' sums.

    Attributes:
        systems: as both sides know them.
        equations: of each system.
        weights: w_g of an image of each group, which the equations have.
        strengths: λ of each system.
    """

    systems: Sequence[System]
    equations: Sequence[Equations]
    weights: npt.NDArray[np.float64]
    strengths: Sequence[float]


def own_head(pooled: Pooled, own: GroupSums, weights: npt.NDArray[np.float64], share: float) -> Tensor:
    """Return W_k, float64 [C, D].

    Args:
        pooled: G, B and λ.
        own: the site's sums.
        weights: of an image of each of its groups [K].
        share: β.
    """
    return solve_all(_with_own(pooled, own, weights, share), pooled.strengths)


def choose_share(
    pooled: Pooled,
    images: SiteImages,
    own: GroupSums,
    weights: npt.NDArray[np.float64],
    generator: np.random.Generator,
    shares: Sequence[float] = SHARES,
) -> tuple[float, list[float]]:
    """Return the β that predicts most of a site's images when they are left out, and how well each does.

    Args:
        pooled: of all sites, this one among them.
        images: of the site.
        own: sums over them.
        weights: of an image of each of its groups [K].
        generator: deals patients into parts.
        shares: values of β; of equally good ones the first is chosen.
    """
    num_classes = sum(len(of.moments) for of in pooled.equations)
    scores = [torch.zeros(len(images.features), num_classes, dtype=torch.float64) for _ in shares]
    for rows in _parts(images.groups, generator):
        part = images.sums(rows, num_classes, own.feature_range)
        rest = GroupSums(own.packed - part.packed, own.feature_range)
        without = [
            of.plus(equations(part, system, pooled.weights), -1.0)
            for of, system in zip(pooled.equations, pooled.systems, strict=True)
        ]
        others = Pooled(pooled.systems, without, pooled.weights, pooled.strengths)
        for score, share in zip(scores, shares, strict=True):
            score[rows] = predict(own_head(others, rest, weights, share), images.features[rows])
    quality = [_quality(score, images.labels, images.visible) for score in scores]
    return shares[int(np.argmax(quality))], quality


def predict(head: Tensor, features: Tensor) -> Tensor:
    """Return scores [n, C] of features [n, d] by W [C, D], whose last column is the bias."""
    return features.double().cpu() @ head[:, :-1].T + head[:, -1]


def _with_own(pooled: Pooled, own: GroupSums, weights: npt.NDArray[np.float64], share: float) -> list[Equations]:
    return [
        of.plus(equations(own, system, weights), share) if share else of
        for of, system in zip(pooled.equations, pooled.systems, strict=True)
    ]


def _parts(groups: npt.NDArray[np.int64], generator: np.random.Generator) -> list[Tensor]:
    """Deal whole groups of images into parts, and return the rows of each that has any."""
    names, index = np.unique(groups, return_inverse=True)
    part_of = generator.permutation(np.arange(len(names)) % _PARTS)[index]
    rows = (torch.from_numpy(np.flatnonzero(part_of == part)) for part in range(_PARTS))
    return [part for part in rows if len(part)]


def _quality(scores: Tensor, labels: Tensor, visible: Tensor | None) -> float:
    """Return the accuracy; of several labels the mean of their sensitivities and specificities."""
    labels = labels.cpu()
    if labels.dtype != torch.bool:
        return (scores.argmax(dim=1) == labels).double().mean().item()
    known = torch.ones(labels.shape[1], dtype=torch.bool) if visible is None else visible.cpu()
    measured = known & labels.any(dim=0) & ~labels.all(dim=0)
    right = (scores > 0) == labels
    of_positives = (right & labels).sum(dim=0) / labels.sum(dim=0).clamp(min=1)
    of_negatives = (right & ~labels).sum(dim=0) / (~labels).sum(dim=0).clamp(min=1)
    balanced = ((of_positives + of_negatives) / 2)[measured]
    return balanced.mean().item() if len(balanced) else 0.0
