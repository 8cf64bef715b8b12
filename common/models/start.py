"""Puts a head that was solved before the first round into the heads that start from it."""

from collections.abc import Collection

import torch

from common.methods import Method
from common.models.model import Model, load_state
from common.packing import Arrays

PREFIX = "head_start."  # of its arrays among those that are sent once


@torch.no_grad()
def start_heads(model: Model, row: Method, head: Arrays, came: Collection[str] = ()) -> None:
    """Set the heads of a method's row, in place, to a solved one.

    Args:
        model: whose heads.
        row: of the method.
        head: `weight` [C, d] and, where heads have one, `bias` [C]; empty: they stay as they are.
        came: names of arrays that came with a message, or that a site kept: their heads stay as they are.
    """
    for name in row.heads if head else ():
        part = getattr(model, name)
        if part is not None and f"{name}.weight" not in came:
            load_state(part, head)
