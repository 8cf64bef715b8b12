"""The trunk of a backbone: its leading steps that stand still, so that what they make of an image is always the same.

A model trains and is evaluated on what its trunk makes of images (`behind_trunk`), whether that comes from a cache
(`trunk_cache.py`) or is computed just before: both then give the same features.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from common.models.backbones import HALF, Backbone

_FEWEST = 16  # of fewer images kernels may sum in another order, and an image's output would depend on its company


def trunk_of(model: nn.Module) -> Backbone | None:
    """Return a backbone of the model whose trunk is that of all of its backbones; None where there is no such trunk."""
    bodies = [part for part in model.modules() if isinstance(part, Backbone)]
    if not bodies or not all(_equal_trunks(bodies[0], body) for body in bodies):
        return None
    return bodies[0]


@torch.no_grad()
def through_trunk(body: Backbone, images: Tensor) -> Tensor:
    """Return what a backbone's trunk makes of each image [B, channels, H, W], B ≥ 1.

    It is float32 [B, ...], rounded to the backbone's `trunk_precision`, whether it is kept or not.
    """
    lacking = _FEWEST - len(images) if body.trunk else 0
    if lacking > 0:
        output = body.through_trunk(torch.cat([images, images[:1].expand(lacking, *images.shape[1:])]))[: len(images)]
    else:
        output = body.through_trunk(images)
    half = HALF.get(body.trunk_precision) if body.trunk else None
    return output.to(half).float() if half else output


@contextmanager
def behind_trunk(model: nn.Module, trunk: Backbone | None) -> Iterator[None]:
    """Let the model take what its trunk (see `trunk_of`) makes of images in their place; without one, images still."""
    bodies = [part for part in model.modules() if isinstance(part, Backbone)] if trunk else []
    for body in bodies:
        body.reads_trunk = True
    try:
        yield
    finally:
        for body in bodies:
            body.reads_trunk = False


def _equal_trunks(first: Backbone, other: Backbone) -> bool:
    if not first.trunk or first.trunk != other.trunk:
        return False
    if first is other:
        return True
    own, theirs = first.state_dict(), other.state_dict()
    names = first.trunk_state()
    return names == other.trunk_state() and all(torch.equal(own[name], theirs[name]) for name in names)
