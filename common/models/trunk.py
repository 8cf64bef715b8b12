"""The trunk of a backbone: its leading steps that stand still, so that what they make of an image is always the same.

A model trains and is evaluated on what its trunk makes of images (`behind_trunk`), whether that comes from a cache
(`trunk_cache.py`) or is computed just before: both then give the same features.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.models.backbones import HALF, Backbone

_FEWEST = 16  # of fewer images kernels may sum in another order, and an image's output would depend on its company

_digests: WeakKeyDictionary[Backbone, tuple[Any, str, Any]] = WeakKeyDictionary()  # how they stood, hash, arrays


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
        output = _trunk_output(body, torch.cat([images, images[:1].expand(lacking, *images.shape[1:])]))[: len(images)]
    else:
        output = _trunk_output(body, images)
    half = HALF.get(body.trunk_precision) if body.trunk else None
    return output.to(half).float() if half else output


def _trunk_output(body: Backbone, images: Tensor) -> Tensor:
    """Return what the trunk makes of images, float32 [B, ...]; without one, the images themselves."""
    maps = body.map_steps()
    if body.trunk > maps:
        return body.pooled(body.run_steps(images, 0, maps))
    return body.run_steps(images, 0, body.trunk) if body.trunk else images


def check_finite(output: Tensor, precision: str) -> None:
    """Check what a trunk made of images, rounded to `precision`; this waits for a GPU.

    Raises:
        UserError: it is not finite.
    """
    if not output.isfinite().all():
        raise UserError(
            f"what the backbone's frozen part makes of images is not finite as {precision}: its weights are damaged, "
            "or of another layout" + ("" if precision == "fp32" else "; or set trunk-precision to fp32")
        )


def trunk_digest(body: Backbone) -> str:
    """Return a hash of all that decides what a trunk makes of pixels: architecture, weights, format and precision.

    It is kept for as long as no array of the trunk is written to, which PyTorch counts, or replaced.
    """
    every = dict(body.named_parameters(remove_duplicate=False)) | dict(body.named_buffers(remove_duplicate=False))
    arrays = {name: every[name] for name in body.trunk_state()}
    facts = (body.trunk, body.channels_last, body.precision)
    state = facts, [(name, id(array), array.data_ptr(), array._version) for name, array in arrays.items()]
    known = _digests.get(body)
    if known is None or known[0] != state:
        digest = hashlib.sha256(" ".join([repr(body), *map(str, facts)]).encode())
        for name, array in arrays.items():
            digest.update(name.encode())
            digest.update(array.detach().cpu().contiguous().numpy().tobytes())
        # the arrays are held: the number of one that is gone could be another's
        _digests[body] = known = (state, digest.hexdigest(), arrays)
    return known[1]


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
