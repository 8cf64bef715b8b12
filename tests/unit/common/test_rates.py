"""The learning rate of each round, and of fine-tuning."""

from collections.abc import Callable
from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import Experiment, build
from common.rates import finetune_rate, round_factor
from common.schedules import SCHEDULES

Tiny = Callable[..., Experiment]


def factors(**keys: object) -> list[float]:
    experiment = build({key.replace("_", "-"): value for key, value in keys.items()})
    return [round_factor(experiment, r) for r in range(1, experiment.rounds.rounds + 1)]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [1, 1, 1, 1]),
        ({"warmup_rounds": 3}, [1 / 4, 2 / 4, 3 / 4, 1]),
        ({"warmup_rounds": 9}, [1 / 10, 2 / 10, 3 / 10, 4 / 10]),  # the run ends before the warm-up does
        ({"schedule": "cosine"}, [(1 + cos(pi * t / 4)) / 2 for t in range(4)]),
        ({"schedule": "cosine", "warmup_rounds": 1}, [1 / 2, *((1 + cos(pi * t / 3)) / 2 for t in range(3))]),
        ({"schedule": "step", "step_rounds": 2}, [1, 1, 0.1, 0.1]),
        ({"schedule": "step", "step_rounds": 1, "step_factor": 0.5, "warmup_rounds": 1}, [1 / 2, 1, 1 / 2, 1 / 4]),
        ({"schedule": "poly", "poly_power": 2}, [1, (3 / 4) ** 2, (2 / 4) ** 2, (1 / 4) ** 2]),
        ({"schedule": "poly"}, [(1 - t / 4) ** 0.9 for t in range(4)]),
    ],
    ids=str,
)
def test_the_factors_of_a_run(keys: dict[str, object], expected: list[float]) -> None:
    assert factors(rounds=4, **keys) == pytest.approx(expected, rel=1e-12)


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    rounds=st.integers(1, 60),
    warmup=st.integers(0, 70),
    power=st.floats(0.01, 100),
    factor=st.floats(1e-6, 1),
)
def test_a_site_never_refuses_a_schedules_factor(
    name: str, rounds: int, warmup: int, power: float, factor: float
) -> None:
    keys = {"schedule": name, "poly_power": power, "step_factor": factor, "step_rounds": 1}
    found = factors(rounds=rounds, warmup_rounds=warmup, **keys)
    assert all(type(rate) is float and 0 <= rate <= 1 for rate in found)
    after = found[warmup:]
    assert after == sorted(after, reverse=True) and found[:warmup] == sorted(found[:warmup])
    assert not after or after[0] == 1


def test_fine_tuning_has_a_rate_of_its_own(tiny: Tiny) -> None:
    assert finetune_rate(tiny(method="fedavg", learning_rate=0.5)) == 0.5
    for method in ("fedloge", "fedetf"):
        assert finetune_rate(tiny(method=method, learning_rate=0.5)) == 0.003
        assert finetune_rate(tiny(method=method, learning_rate=0.001)) == 0.001
        assert finetune_rate(tiny(method=method, finetune_learning_rate=0.5)) == 0.5
