"""The one optimiser of training and fine-tuning: PyTorch's, of a row of `OPTIMISERS` in `common/optimisers.py`.

Parameters stand in groups, one a part of the model (`backbone`, `aux_head`, …), each with its own rate; a part's
biases, norms and scales are a second group where the optimiser's row does not decay them.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.config import Experiment
from common.errors import RefusalError
from common.optimisers import OPTIMISERS
from common.wire import Arrays

State = dict[str, dict[str, Tensor]]  # an optimiser's: parameter → its moments, by PyTorch's names

_PREFIX = "optimiser/"
_FIRST_SCALE, _LAST_SCALE = 1024.0, 1.0  # of gradients in half precision: low, for each one too high costs a step
_BACKBONES = ("backbone", "personal_backbone")


def optimiser_for(
    parameters: Iterable[tuple[str, nn.Parameter]],
    learning_rate: float,
    experiment: Experiment,
    state: State | None = None,
) -> torch.optim.Optimizer:
    """Return a new optimiser of those parameters that may move.

    Args:
        parameters: of a model, with their names, whose first word is the part.
        learning_rate: of all of them, before `head-rate` and `backbone-rate`.
        experiment: says which optimiser, and has its other keys.
        state: that it goes on with, as far as its parameters are there; None: it starts anew.
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
    for name, parameter in named_parameters(found):
        if state and name in state:
            found.state[parameter] = dict(state[name])
    return found


def named_parameters(optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    """Return an optimiser's parameters with the names that `optimiser_for` was given."""
    return [pair for group in optimizer.param_groups for pair in zip(group["names"], group["params"], strict=True)]


def state_of(optimizer: torch.optim.Optimizer) -> State:
    """Return an optimiser's state; a parameter that has none yet is left out."""
    found = {name: optimizer.state[p] for name, p in named_parameters(optimizer) if p in optimizer.state}
    return {name: {key: value for key, value in of.items() if isinstance(value, Tensor)} for name, of in found.items()}


def state_arrays(state: State) -> Arrays:
    """Return a state as a file has it, among other arrays: `optimiser/PARAMETER/MOMENT`."""
    return {
        f"{_PREFIX}{name}/{key}": value.detach().cpu().numpy()
        for name, of in state.items()
        for key, value in of.items()
    }


def take_state(arrays: Mapping[str, npt.NDArray[Any]], model: nn.Module) -> State:
    """Return the state that a file's arrays hold, on the devices of a model's parameters."""
    state: State = {}
    parameters = dict(model.named_parameters())
    for path in filter(is_state, arrays):
        name, key = path.removeprefix(_PREFIX).split("/")
        moment = torch.from_numpy(np.array(arrays[path]))
        # PyTorch counts steps on the CPU
        state.setdefault(name, {})[key] = moment if key == "step" else moment.to(parameters[name].device)
    return state


def is_state(name: str) -> bool:
    """Whether an array of a file is of `state_arrays`."""
    return name.startswith(_PREFIX)


def scaler_for(experiment: Experiment, device: torch.device) -> torch.amp.GradScaler:
    """Return what scales gradients for `precision: fp16`, where small ones would be 0; for others it does nothing."""
    return torch.amp.GradScaler(device.type, _FIRST_SCALE, enabled=experiment.model.precision == "fp16")


def take_step(
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    experiment: Experiment,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Move the parameters once, down the gradient of a loss, clipped as `clip-gradients` says.

    Each part is clipped by itself: how a personal head learns must not change what the others learn.

    Args:
        optimizer: whose parameters move.
        loss: a scalar.
        experiment: has the keys.
        scaler: of the gradients of a backbone in half precision. A step whose gradients overflow is left out, and
            the next ones are scaled by half as much.

    Raises:
        RefusalError: gradients overflow even where they are scaled down.
    """
    scaler = scaler or torch.amp.GradScaler(enabled=False)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    scaler.unscale_(optimizer)
    if limit := experiment.train.clip_gradients:
        for _, groups in groupby(optimizer.param_groups, itemgetter("part")):
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], limit)
    scaler.step(optimizer)
    scaler.update()
    if scaler.get_scale() < _LAST_SCALE:
        raise RefusalError(  # the coordinator may know: it names no file
            "precision = 'fp16': gradients overflow in step after step; set precision: bf16, or a smaller "
            f"learning-rate than {experiment.train.learning_rate:g}"
        )
