"""The optimisers of local training, a row each: what trains a site's parameters."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from common.config import Experiment
from common.errors import unknown

Builder = Callable[[list[nn.Parameter], float, Experiment], torch.optim.Optimizer]

DEFAULT = "sgd"  # every method's papers train with it


def _sgd(parameters: list[nn.Parameter], learning_rate: float, experiment: Experiment) -> torch.optim.Optimizer:
    keys = experiment.train
    return torch.optim.SGD(parameters, learning_rate, momentum=keys.momentum, weight_decay=keys.weight_decay)


OPTIMISERS: dict[str, Builder] = {"sgd": _sgd}


def optimiser_for(
    parameters: Iterable[nn.Parameter], learning_rate: float, experiment: Experiment, name: str = DEFAULT
) -> torch.optim.Optimizer:
    """Return a new optimiser of those parameters that may move.

    Args:
        parameters: of a model or a head.
        learning_rate: of all of them.
        experiment: has the optimiser's other keys.
        name: a key of `OPTIMISERS`.

    Raises:
        UserError: no such optimiser.
    """
    if name not in OPTIMISERS:
        raise unknown("optimiser", name, OPTIMISERS)
    return OPTIMISERS[name]([p for p in parameters if p.requires_grad], learning_rate, experiment)
