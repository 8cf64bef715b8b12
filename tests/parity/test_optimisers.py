"""The optimisers of local training against their formulas, written out number by number."""

from collections.abc import Callable, Iterator
from math import sqrt

import pytest
import torch
from torch import nn

from client_app.training.optimiser import optimiser_for, take_step
from common.config import Experiment

Tiny = Callable[..., Experiment]
START, TARGET, RATE, DECAY = (1.5, -2.0), (0.25, 1.0), 0.1, 0.2
STEPS = 7


def slope(x: float, target: float) -> float:
    """Return the slope of (x − target)² · x² / 4."""
    return (x - target) * x * (2 * x - target) / 2


def path(step: Callable[[float, float, int], float], target: float, start: float) -> Iterator[float]:
    """Yield x after each step x ← step(x, slope, t)."""
    x = start
    for t in range(1, STEPS + 1):
        x = step(x, slope(x, target), t)
        yield x


def sgd(momentum: float, nesterov: bool) -> Callable[[float, float, int], float]:
    """Return PyTorch's form: v ← μv + g, the first v is g; x ← x − η(g + μv) or x − ηv; the decay is in g."""
    v: list[float] = []

    def step(x: float, g: float, t: int) -> float:
        g += DECAY * x
        v.append(momentum * v[-1] + g if v else g)
        return x - RATE * (g + momentum * v[-1] if nesterov else v[-1])

    return step


def adam(beta1: float, beta2: float, decoupled: bool) -> Callable[[float, float, int], float]:
    """Return Adam (Kingma and Ba 2015, Algorithm 1), or AdamW (Loshchilov and Hutter 2019, Algorithm 2)."""
    m = n = 0.0

    def step(x: float, g: float, t: int) -> float:
        nonlocal m, n
        if decoupled:
            x -= RATE * DECAY * x
        else:
            g += DECAY * x
        m, n = beta1 * m + (1 - beta1) * g, beta2 * n + (1 - beta2) * g * g
        return x - RATE * (m / (1 - beta1**t)) / (sqrt(n / (1 - beta2**t)) + 1e-8)

    return step


CASES = {
    "plain": ({"momentum": 0.0}, lambda: sgd(0.0, False)),
    "momentum": ({"momentum": 0.7}, lambda: sgd(0.7, False)),
    "nesterov": ({"momentum": 0.7, "nesterov": True}, lambda: sgd(0.7, True)),
    "nesterov without momentum": ({"momentum": 0.0, "nesterov": True}, lambda: sgd(0.0, False)),
    "adam": ({"optimizer": "adam"}, lambda: adam(0.9, 0.999, False)),
    "adamw": ({"optimizer": "adamw", "adam_beta1": 0.6, "adam_beta2": 0.7}, lambda: adam(0.6, 0.7, True)),
}


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_the_formula(tiny: Tiny, case: str) -> None:
    keys, formula = CASES[case]
    experiment = tiny(weight_decay=DECAY, **keys)
    x = nn.Parameter(torch.tensor([START], dtype=torch.float64))  # [1, 2]: a weight, which decays
    optimizer = optimiser_for([("aux_head.weight", x)], RATE, experiment)
    expected = [path(formula(), target, start) for target, start in zip(TARGET, START, strict=True)]
    for wanted in zip(*expected, strict=True):
        take_step(optimizer, ((x - torch.tensor(TARGET)) ** 2 * x**2 / 4).sum(), experiment)
        torch.testing.assert_close(x.detach()[0], torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-12)
