"""Where a sparse frame has its zeros (FedLoGe, ICLR 2024, Eq. 3)."""

import torch
from torch import Tensor

from common.errors import UserError


def draw_mask(num_classes: int, dim: int, sparsity: float, generator: torch.Generator) -> Tensor:
    """Draw a mask with exactly round(sparsity d C) zeros, float64 [d, C] of 0 and 1 (FedLoGe, Eq. 3).

    Zeros are drawn without replacement over the whole matrix. Then a few entries move, none being lost: to
    classes with less than half the mean support, and from features that one class alone would use, since the
    entries of a feature sum to zero in an ETF.

    Raises:
        UserError: the sparsity leaves fewer entries than classes.
    """
    zeros = round(sparsity * dim * num_classes)
    kept = dim * num_classes - zeros
    if kept < num_classes:
        raise UserError(
            f"sparsity = {sparsity}: leaves {kept} of the frame's {dim * num_classes} entries to "
            f"{num_classes} classes; with {dim} features it can be at most {1 - 1 / dim:.4g}"
        )
    flat = torch.ones(dim * num_classes, dtype=torch.bool)
    flat[torch.randperm(dim * num_classes, generator=generator)[:zeros]] = False
    mask = flat.view(dim, num_classes)
    # Two classes are opposite vectors, so their supports must be equal.
    least = kept // 2 if num_classes == 2 else max(1, kept // (2 * num_classes))
    _support_classes(mask, least, generator)
    _pair_features(mask, generator)
    return mask.double()


def _support_classes(mask: Tensor, least: int, generator: torch.Generator) -> None:
    """Move entries from the best supported class, in place, until every class has at least `least`."""
    while int((support := mask.sum(dim=0)).min()) < least:
        poor, rich = int(support.argmin()), int(support.argmax())
        feature = _pick(mask[:, rich] & ~mask[:, poor], generator)
        mask[feature, rich], mask[feature, poor] = False, True


def _pair_features(mask: Tensor, generator: torch.Generator) -> None:
    """Move entries between features, in place, until no feature has exactly one; class supports stay."""
    users = mask.sum(dim=1)
    for feature in torch.nonzero(users == 1).flatten().tolist():
        if int(users[feature]) != 1:  # an earlier entry has moved here
            continue
        owner = int(mask[feature].int().argmax())
        free, rich = (users >= 1) & ~mask[:, owner], users >= 3
        if bool(free.any()):
            source, target, moved = feature, _pick(free, generator), owner
        elif bool(rich.any()):
            source, target = _pick(rich, generator), feature
            moved = _pick(mask[source] & ~mask[feature], generator)
        else:
            continue
        mask[source, moved], mask[target, moved] = False, True
        users[source], users[target] = users[source] - 1, users[target] + 1


def _pick(allowed: Tensor, generator: torch.Generator) -> int:
    places = torch.nonzero(allowed).flatten()
    return int(places[torch.randint(len(places), (1,), generator=generator)])
