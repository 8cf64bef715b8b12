"""The one optimiser of training and fine-tuning: PyTorch's, of a row of `OPTIMISERS` in `common/optimisers.py`.

Parameters stand in groups, one a part of the model (`backbone`, `aux_head`, …), each with its own rate; a part's
biases, norms and scales are a second group where the optimiser's row does not decay them.
"""

from collections.abc import Iterable
from importlib import import_module
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from common.config import Experiment
from common.optimisers import OPTIMISERS

_BACKBONES = ("backbone", "personal_backbone")


def optimiser_for(
    parameters: Iterable[tuple[str, nn.Parameter]], learning_rate: float, experiment: Experiment
) -> torch.optim.Optimizer:
    """Return a new optimiser of those parameters that may move.

    Args:
        parameters: of a model, with their names, whose first word is the part.
        learning_rate: of all of them, before `head-rate` and `backbone-rate`.
        experiment: says which optimiser, and has its other keys.
    """
    keys = experiment.train
    row = OPTIMISERS[keys.optimizer]
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in ((name, p) for name, p in parameters if p.requires_grad):
        part, decays = name.split(".", 1)[0], row.decays_all or parameter.dim() > 1
        new = {"part": part, "names": [], "params": [], "weight_decay": keys.weight_decay if decays else 0.0}
        new["lr"] = learning_rate * (keys.backbone_rate if part in _BACKBONES else keys.head_rate)
        group = groups.setdefault((part, decays), new)
        group["names"].append(name)
        group["params"].append(parameter)
    module, _, kind = row.build.partition(":")
    found: torch.optim.Optimizer = getattr(import_module(module), kind)([*groups.values()], **row.arguments(keys))
    return found


def take_step(optimizer: torch.optim.Optimizer, loss: Tensor, experiment: Experiment) -> None:
    """Move the parameters once, down the gradient of a loss, clipped as `clip-gradients` says.

    Each part is clipped by itself: how a personal head learns must not change what the others learn.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if limit := experiment.train.clip_gradients:
        for _, groups in groupby(optimizer.param_groups, itemgetter("part")):
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], limit)
    optimizer.step()
