"""Ridge regression on sums over images: class-balanced, for one label an image or several, λ from the sums alone.

With h̃ = (h, 1) and weights w_g of the images of group g, W = (Σ_g w_g G_g + λI)⁻¹ Σ_g w_g t_g b_g, where t_g is what
the scores of group g's images should be. The constant is not penalised. Fed3R (Fanì et al., ICML 2024,
https://arxiv.org/abs/2406.01116, Eq. 6) is the case of equal weights; AFL (He et al., CVPR 2025,
https://arxiv.org/abs/2405.16240) reaches the same solution from sites' own ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.closed_form.sums import GroupSums
from common.errors import UserError

GRID = tuple(10.0 ** (half / 2) for half in range(-4, 17))  # of λ


@dataclass(frozen=True)
class System:
    """One system of equations: its groups of images and what their scores should be.

    Attributes:
        groups: their numbers.
        targets: float64 [groups, outputs].
    """

    groups: tuple[int, ...]
    targets: Tensor


def systems_of(num_classes: int, multilabel: bool) -> list[System]:
    """Return what is solved: one system for all classes, or one a label between its positives and negatives.

    The groups are the C classes, or the C labels' positives and then their negatives, whose targets are 1 and -1.
    """
    if not multilabel:
        return [System(tuple(range(num_classes)), torch.eye(num_classes, dtype=torch.float64))]
    signs = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    return [System((label, num_classes + label), signs) for label in range(num_classes)]


def members_of(labels: Tensor, num_classes: int, visible: Tensor | None = None) -> Tensor:
    """Return of which groups of `systems_of` each image is, bool [n, K].

    Args:
        labels: class indices [n], or several labels as bool [n, C].
        num_classes: C.
        visible: of several labels, those known of these images, bool [C]; None: all.
    """
    if labels.dtype != torch.bool:
        return labels[:, None] == torch.arange(num_classes, device=labels.device)
    known = torch.ones_like(labels) if visible is None else visible.expand_as(labels)
    return torch.cat([labels & known, ~labels & known], dim=1)


def group_weights(counts: npt.NDArray[np.int64], systems: Sequence[System], balance: float) -> npt.NDArray[np.float64]:
    """Return w_g = (N/(G n_g))^τ of an image of each group [K], 0 for a group without images.

    Args:
        counts: n_g, images of each group [K].
        systems: N and G are the images, and the groups with any, of a system.
        balance: τ; 1: each group weighs the same, 0: each image does.
    """
    weights = np.zeros(len(counts))
    for system in systems:
        groups = np.array(system.groups)
        there = groups[counts[groups] > 0]
        weights[there] = (counts[there].sum() / (len(there) * counts[there])) ** balance
    return weights


@dataclass(frozen=True)
class Equations:
    """Σ_g w_g G_g and Σ_g w_g b_g t_gᵀ of one system.

    Attributes:
        gram: float64 [D, D].
        moments: float64 [outputs, D].
    """

    gram: Tensor
    moments: Tensor

    def plus(self, other: "Equations", share: float) -> "Equations":
        """Return these with a share of others added."""
        return Equations(self.gram + share * other.gram, self.moments + share * other.moments)


def equations(sums: GroupSums, system: System, weights: npt.NDArray[np.float64]) -> Equations:
    """Return a system's equations; groups are added in their order."""
    gram = torch.zeros(sums.dim, sums.dim, dtype=torch.float64)
    moments = torch.zeros(system.targets.shape[1], sums.dim, dtype=torch.float64)
    for group, target in zip(system.groups, system.targets, strict=True):
        if weights[group]:
            own = sums.gram(group)
            gram += weights[group] * own
            moments += weights[group] * torch.outer(target, own[-1])
    return Equations(gram, moments)


def solve(of: Equations, strength: float, *, bias: bool = True) -> Tensor:
    """Return W, float64 [outputs, D], whose last column is the bias; zero where there is no image.

    Args:
        of: the equations.
        strength: λ.
        bias: whether scores may have one; else the constant is no part of h̃, and the last column is 0.

    Raises:
        UserError: the equations are singular.

    Example:
        >>> import torch
        >>> h = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]], dtype=torch.float64)
        >>> y = torch.tensor([[1.0, 3.0, 5.0]], dtype=torch.float64)
        >>> solve(Equations(h.T @ h, y @ h), 1e-9).round(decimals=6).tolist()
        [[2.0, 1.0]]
    """
    if not of.gram[-1, -1] > 0:
        return torch.zeros_like(of.moments)
    penalty = torch.full((len(of.gram),), float(strength), dtype=torch.float64)
    penalty[-1] = 0
    used = slice(None) if bias else slice(-1)
    factor, failed = torch.linalg.cholesky_ex((of.gram + torch.diag(penalty))[used, used])
    if failed.item():
        raise UserError(f"ridge-lambda = {strength:g}: the sums of features are singular; choose a larger one")
    head = torch.zeros_like(of.moments)
    head[:, used] = torch.cholesky_solve(of.moments[:, used].T, factor).T
    return head


def choose_strength(
    sums: GroupSums,
    system: System,
    weights: npt.NDArray[np.float64],
    grid: Sequence[float] = GRID,
    *,
    bias: bool = True,
) -> tuple[float, list[float]]:
    """Return the λ of the least risk, and the risk of each: cross-validated by formula, without an image.

    Generalised cross-validation (Golub, Heath & Wahba, 1979, https://doi.org/10.2307/1268518, Eq. 2.3) replaces each
    image's leverage by their mean. With weights the leverages of a rare and a frequent class differ by orders of
    magnitude; here each is replaced by the mean of its group: Σ_g w_g RSS_g / (1 − ℓ_g)², with RSS_g the group's sum
    of squared errors and ℓ_g = w_g tr((G + λI)⁻¹G_g)/n_g.

    Args:
        sums: of all sites.
        system: which groups.
        weights: w_g [K].
        grid: values of λ.
        bias: as of `solve`.
    """
    of = equations(sums, system, weights)
    total = of.gram[-1, -1]
    if not total > 0:
        return grid[0], [0.0] * len(grid)
    mean, offset = bias * of.gram[:-1, -1] / total, bias * of.moments[:, -1] / total
    values, vectors = torch.linalg.eigh(of.gram[:-1, :-1] - total * torch.outer(mean, mean))
    slopes = (of.moments[:, :-1] - total * torch.outer(offset, mean)) @ vectors  # before division by Λ + λ
    risks = torch.zeros(len(grid), dtype=torch.float64)
    for group, target in zip(system.groups, system.targets, strict=True):
        if not weights[group]:
            continue
        own = sums.gram(group)
        count, moment = own[-1, -1], own[:-1, -1]
        centred = own[:-1, :-1] - torch.outer(moment, mean) - torch.outer(mean, moment)
        centred = vectors.T @ (centred + count * torch.outer(mean, mean)) @ vectors
        error, shift = target - offset, (moment - count * mean) @ vectors
        for place, strength in enumerate(grid):
            shrunk = (values + strength).clamp(min=torch.finfo(torch.float64).tiny)
            head = slopes / shrunk
            squares = count * error @ error - 2 * error @ (head @ shift) + ((head @ centred) * head).sum()
            leverage = weights[group] * (bias / total + (centred.diagonal() / shrunk).sum() / count)
            risks[place] += weights[group] * squares / (1 - leverage.clamp(max=1 - 1e-6)) ** 2
    return grid[int(risks.argmin())], (risks / total).tolist()


def solve_all(of: Sequence[Equations], strengths: Sequence[float], *, bias: bool = True) -> Tensor:
    """Return W of all systems together, float64 [C, D]; `bias` as of `solve`.

    Raises:
        UserError: as `solve`.
    """
    return torch.cat([solve(one, strength, bias=bias) for one, strength in zip(of, strengths, strict=True)])
