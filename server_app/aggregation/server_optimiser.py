"""Server optimisers: the mean of the sites' updates is a step's direction, not the step itself.

FedAvgM (Hsu et al., 2019, https://arxiv.org/abs/1909.06335) and FedAdam, FedYogi, FedAdagrad (Reddi et al., ICLR 2021,
https://arxiv.org/abs/2003.00295, Algorithm 2), in the form that Flower's strategies have: both moments start at 0, and
Adam's rate is corrected for that, with t + 1 for the step t.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord

from common.config import Experiment
from common.config.sections import RoundsSection
from common.wire import Arrays

Array = npt.NDArray[Any]
# of update Δ, moments m and v, number of the step from 1, and keys: the step before the rate, and the new m and v
Rule = Callable[[Array, Array, Array, int, RoundsSection], tuple[Array, Array, Array]]


def _momentum(update: Array, m: Array, v: Array, t: int, keys: RoundsSection) -> tuple[Array, Array, Array]:
    m = keys.server_momentum * m + update
    return m, m, v


def _adam(update: Array, m: Array, v: Array, t: int, keys: RoundsSection) -> tuple[Array, Array, Array]:
    m = keys.server_beta1 * m + (1 - keys.server_beta1) * update
    v = keys.server_beta2 * v + (1 - keys.server_beta2) * update**2
    corrected = sqrt(1 - keys.server_beta2 ** (t + 1)) / (1 - keys.server_beta1 ** (t + 1))
    return corrected * m / (np.sqrt(v) + keys.server_tau), m, v


def _yogi(update: Array, m: Array, v: Array, t: int, keys: RoundsSection) -> tuple[Array, Array, Array]:
    m = keys.server_beta1 * m + (1 - keys.server_beta1) * update
    v = v - (1 - keys.server_beta2) * update**2 * np.sign(v - update**2)
    return m / (np.sqrt(v) + keys.server_tau), m, v


def _adagrad(update: Array, m: Array, v: Array, t: int, keys: RoundsSection) -> tuple[Array, Array, Array]:
    v = v + update**2
    return update / (np.sqrt(v) + keys.server_tau), m, v


@dataclass(frozen=True)
class ServerRule:
    """A row of the table.

    Attributes:
        rate: the server's learning rate where none is given: Flower's.
        step: makes a step of an update.
        moments: which of 'm' and 'v' it has, and a checkpoint keeps.
    """

    rate: float
    step: Rule
    moments: tuple[str, ...]


RULES: dict[str, ServerRule] = {
    "momentum": ServerRule(1.0, _momentum, ("m",)),
    "adam": ServerRule(0.1, _adam, ("m", "v")),
    "yogi": ServerRule(0.01, _yogi, ("m", "v")),
    "adagrad": ServerRule(0.1, _adagrad, ("v",)),
}

_STEPS = "steps"  # of the state, how many there were


class ServerOptimiser:
    """What makes the new model of the old one and the mean of the replies, with its state.

    Args:
        experiment: `server-optimizer` and its keys; with none, the mean is the new model.
        trained: names of the parameters. Everything else, such as BatchNorm's statistics, is the mean as ever.
    """

    def __init__(self, experiment: Experiment, trained: Collection[str]) -> None:
        self._keys, self._trained = experiment.rounds, frozenset(trained)
        self._rule = RULES.get(experiment.rounds.server_optimizer)
        self._model: Arrays = {}
        self._state: Arrays = {}

    def begin(self, arrays: ArrayRecord) -> None:
        """Begin a round, or repeat it, with the model as it is before it is rounded for the wire."""
        if self._rule:
            self._model = {name: array.numpy() for name, array in arrays.items() if name in self._trained}

    def step(self, received: Mapping[str, Array], mean: Arrays) -> Arrays:
        """Return the new model.

        Args:
            received: what the sites were sent, as they see it.
            mean: of what they have made of it.
        """
        if not self._rule:
            return mean
        t = int(self._state.get(_STEPS, np.array(0))) + 1
        rate = self._keys.server_learning_rate or self._rule.rate
        arrays, state = dict(mean), {_STEPS: np.array(t, np.int64)}
        with np.errstate(over="ignore", invalid="ignore"):  # whether the model is finite is looked at afterwards
            for name, old in ((name, old) for name, old in self._model.items() if name in mean):
                update = mean[name] - received[name]
                m, v = (self._state.get(f"{moment}/{name}", np.zeros_like(update)) for moment in "mv")
                moved, m, v = self._rule.step(update, m, v, t, self._keys)
                arrays[name] = np.asarray(old + rate * moved, mean[name].dtype)
                state |= {f"{kept}/{name}": {"m": m, "v": v}[kept] for kept in self._rule.moments}
        self._state = state
        return arrays

    def state(self) -> Arrays:
        """Return what a resumed run needs: the moments of each parameter, and the number of steps."""
        return dict(self._state)

    def restore(self, state: Arrays) -> None:
        """Take over what `state` returned."""
        self._state = dict(state)
