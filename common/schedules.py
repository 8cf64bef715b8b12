"""The schedules of the learning rate over a run's rounds, a row each."""

from collections.abc import Callable
from math import cos, pi
from typing import Any

# name → factor of the learning rate in round t = 0 … n − 1 after the warm-up, given t, n and the section `train`
SCHEDULES: dict[str, Callable[[int, int, Any], float]] = {
    "constant": lambda t, n, train: 1.0,
    "cosine": lambda t, n, train: (1 + cos(pi * t / n)) / 2,  # Loshchilov and Hutter, ICLR 2017, without restarts
    "step": lambda t, n, train: train.step_factor ** (t // train.step_rounds),
    "poly": lambda t, n, train: (1 - t / n) ** train.poly_power,
}
