"""How the parts of a model beside its backbone are built, a row each.

A method that needs a part which no other has, or one that starts otherwise, brings its builder in its own row
(`Method.builders`).
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TypeVar

import torch
from torch import Tensor, nn

from common.methods.base import PartBuilder, PartContext
from common.models.heads import ClassHead, Projection, linear_from
from common.models.ladm import PerClassHead
from common.seeds import borrowed_generator, derive

T = TypeVar("T")


def linear_head(context: PartContext) -> ClassHead:
    """Return a linear head d → C."""
    return ClassHead(context.dim, context.num_classes, bias=context.experiment.model.head_bias)


def unbiased_head(context: PartContext) -> ClassHead:
    """Return a linear head d → C that a frame will be copied into, which has no bias."""
    return ClassHead(context.dim, context.num_classes, bias=False)


def solved_head(context: PartContext) -> ClassHead:
    """Return a linear head that starts at 0; it has a bias, which its equations do not penalise."""
    return linear_from(torch.zeros(context.num_classes, context.dim), torch.zeros(context.num_classes))


def solved_vectors(context: PartContext) -> ClassHead:
    """Return a linear head that starts at 0 and has no bias."""
    return linear_from(torch.zeros(context.num_classes, context.dim), None)


def scaled_frame(context: PartContext) -> ClassHead:
    """Return a linear head that starts as the frame under its first scale, without a frame as any other."""
    if context.frame is None:
        return linear_head(context)
    bias = torch.zeros(context.num_classes) if context.experiment.model.head_bias else None
    return linear_from(PerClassHead.first_scale * context.frame, bias)


def _projection(context: PartContext) -> Projection:
    model = context.experiment.model
    return Projection(context.dim, context.experiment.options.projection_temperature(model.backbone))


def _class_head(context: PartContext) -> PerClassHead:
    return PerClassHead(context.num_classes, context.frame if context.experiment.options.frame_learns else None)


# name → builder, in the order in which a model has them
PARTS: dict[str, PartBuilder] = {
    "projection": _projection,
    "retrained_head": linear_head,
    "class_head": _class_head,
    "aux_head": linear_head,
    "personal_head": linear_head,
    "personal_backbone": lambda context: context.body(),
    "class_weights": lambda context: torch.ones(context.num_classes),
    "class_state": lambda context: torch.zeros(3, context.num_classes),
}


def build_parts(context: PartContext) -> dict[str, nn.Module | Tensor | None]:
    """Build the parts of a method's row, those of `PARTS` in its order, then the method's own in the row's.

    Each is drawn from (seed, its name), at a site whose own it is from (seed, its name, site).

    Returns:
        Part by name; None for a site's own on the coordinator.
    """
    row = context.row
    wanted = (*row.parts, *context.experiment.options.optional_parts)
    names = [name for name in PARTS if name in wanted] + [name for name in wanted if name not in PARTS]
    found: dict[str, nn.Module | Tensor | None] = {}
    for name in names:
        builder = _resolved(row.builders.get(name) or PARTS[name])
        here = context.site is not None or not row.at_sites(name)
        found[name] = seeded(_seed(name, context), partial(builder, context)) if here else None
    return found


def seeded(seed: int, construct: Callable[[], T]) -> T:
    """Return what a call draws from torch's global generator with a seed, and leave the generator as it was."""
    with borrowed_generator() as generator:
        generator.manual_seed(seed)
        return construct()


def _seed(name: str, context: PartContext) -> int:
    row, site = context.row, context.site or ""
    # a whole personal model, and the only head of a shared backbone, start as ψ does for every other method
    as_psi = "personal_backbone" in row.parts or "aux_head" not in row.parts
    if name == "retrained_head" or (name == "personal_head" and as_psi):
        return derive(context.experiment.run.seed, "aux_head")
    return derive(context.experiment.run.seed, name, site if row.at_sites(name) else "")


def _resolved(builder: PartBuilder | str) -> PartBuilder:
    """Return the function that 'module:function' names."""
    if not isinstance(builder, str):
        return builder
    module, _, name = builder.partition(":")
    found: PartBuilder = getattr(import_module(module), name)
    return found
