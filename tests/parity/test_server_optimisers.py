"""Server optimisers against Flower's strategies, and FedAvgM's formula written out."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi

from common.config import build
from common.wire import pack
from server_app.aggregation.server_optimiser import ServerOptimiser

Arrays = dict[str, np.ndarray]
SHAPES = {"backbone.w": (3, 4), "aux_head.w": (2, 3), "aux_head.b": (2,)}
KEYS = {
    "momentum": {"server-learning-rate": 0.7, "server-momentum": 0.6},
    "adam": {"server-learning-rate": 0.05, "server-beta1": 0.8, "server-beta2": 0.95, "server-tau": 0.01},
    "yogi": {"server-learning-rate": 0.05, "server-beta1": 0.8, "server-beta2": 0.95, "server-tau": 0.01},
    "adagrad": {"server-learning-rate": 0.05, "server-tau": 0.01},
}
THEIRS: dict[str, Callable[..., FedAvg]] = {
    "momentum": lambda eta, momentum=0.9: FedAvgM(server_learning_rate=eta, server_momentum=momentum),
    "adam": FedAdam,
    "yogi": FedYogi,
    "adagrad": FedAdagrad,
}
NAMES = {"server-learning-rate": "eta", "server-beta1": "beta_1", "server-beta2": "beta_2", "server-tau": "tau"}


def drawn(rng: np.random.Generator) -> Arrays:
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def trained(model: Arrays, rng: np.random.Generator) -> Arrays:
    """Return what the sites make of a model: a mean that moves most coordinates, by very different lengths."""
    moves = drawn(rng)
    return {name: w + moves[name] * rng.choice([0, 1e-3, 1], w.shape).astype(np.float32) for name, w in model.items()}


def by_flower(strategy: Any, start: Arrays, monkeypatch: pytest.MonkeyPatch) -> Iterator[Arrays]:
    """Yield the model after each round of one of Flower's strategies, whose mean is given."""
    rng, model = np.random.default_rng(1), start
    for server_round in range(1, 7):
        mean = ArrayRecord({name: Array(w) for name, w in trained(model, rng).items()})
        monkeypatch.setattr(FedAvg, "aggregate_train", lambda *_, mean=mean: (mean, None))
        strategy.current_arrays = pack(model) if isinstance(strategy, FedAvgM) else model
        arrays, _ = strategy.aggregate_train(server_round, [])
        model = {name: array.numpy().astype(np.float32) for name, array in arrays.items()}  # Adam's are float64
        yield model


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("default_rate", [True, False])
def test_the_steps_are_those_of_flowers_strategy(
    name: str, default_rate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {} if default_rate else KEYS[name]
    ours = ServerOptimiser(build({"server-optimizer": name, **keys}), SHAPES)
    if name == "momentum":
        theirs = THEIRS[name](keys.get("server-learning-rate", 1.0), keys.get("server-momentum", 0.9))
    else:
        theirs = THEIRS[name](**{NAMES[key]: value for key, value in keys.items()})
    model, rng = drawn(np.random.default_rng(0)), np.random.default_rng(1)
    for expected in by_flower(theirs, model, monkeypatch):
        ours.begin(pack(model))
        model = ours.step(model, trained(model, rng))
        for key, value in expected.items():
            assert model[key].dtype == np.float32
            np.testing.assert_allclose(model[key], value, rtol=1e-5, atol=1e-6)
        model = expected  # each step is compared from the same model


def test_momentum_is_a_sum_of_updates_that_fade() -> None:
    ours = ServerOptimiser(build({"server-optimizer": "momentum", "server-momentum": 0.5}), ["w"])
    x, speed = 2.0, 0.0
    for mean in (3.0, 3.0, 1.0, -2.0):
        model = {"w": np.array([x], np.float32)}
        ours.begin(pack(model))
        found = ours.step(model, {"w": np.array([mean], np.float32)})
        speed = 0.5 * speed + (mean - x)
        x += speed
        assert found["w"].tolist() == [x]
