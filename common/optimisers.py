"""The optimisers of local training, a row each, for coordinator and sites; PyTorch's, which it does not import.

A row's function says what an optimiser takes of the section `train` beside learning rate and weight decay.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Optimiser:
    """What is known of an optimiser.

    Attributes:
        build: `"module:class"` of (parameter groups, further arguments).
        arguments: of the section `train`: those further arguments, by name.
        decays_all: whether `weight-decay` is also of biases, norms and scales: parameters of one dimension or none.
    """

    build: str
    arguments: Callable[[Any], dict[str, Any]] = lambda train: {}
    decays_all: bool = False


def _momentum(train: Any) -> dict[str, Any]:
    return {"momentum": train.momentum, "nesterov": train.nesterov and train.momentum > 0}


def _betas(train: Any) -> dict[str, Any]:
    return {"betas": (train.adam_beta1, train.adam_beta2)}


OPTIMISERS: dict[str, Optimiser] = {
    "sgd": Optimiser("torch.optim:SGD", _momentum, decays_all=True),  # every method's papers train with it
    "adamw": Optimiser("torch.optim:AdamW", _betas),
    "adam": Optimiser("torch.optim:Adam", _betas),
}
