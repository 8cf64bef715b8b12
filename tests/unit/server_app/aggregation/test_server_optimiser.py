"""What a server optimiser moves and keeps, in a run and where a run is taken up."""

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.config import Experiment, build
from common.config.sections import RoundsSection
from common.models.model import build_model
from common.wire import pack
from server_app.aggregation.server_optimiser import RULES, ServerOptimiser
from server_app.engines.engines import run_local
from server_app.rounds.round import Round
from server_app.rounds.strategy import FedStrategy

Tiny = Callable[..., Experiment]


def test_every_value_of_the_key_has_a_row() -> None:
    assert get_args(RoundsSection.model_fields["server_optimizer"].annotation) == ("none", *RULES)


def test_without_one_the_mean_is_the_model() -> None:
    optimiser, mean = ServerOptimiser(build({}), ["w"]), {"w": np.ones(2, np.float32)}
    optimiser.begin(pack({"w": np.zeros(2, np.float32)}))
    assert optimiser.step({"w": np.zeros(2, np.float32)}, mean) is mean and optimiser.state() == {}


@pytest.mark.parametrize("name", RULES)
def test_statistics_are_the_mean_and_steps_start_from_the_exact_model(name: str) -> None:
    optimiser = ServerOptimiser(build({"server-optimizer": name, "server-learning-rate": 1}), ["w", "absent"])
    exact, received = np.array([1 + 1e-4], np.float32), np.array([1], np.float32)  # rounded on the way
    statistics = {"norm.running_var": np.array([2.5], np.float32), "norm.num_batches_tracked": np.array(7, np.int64)}
    optimiser.begin(pack({"w": exact, **statistics}))
    found = optimiser.step({"w": received, **statistics}, {"w": received, **statistics})
    assert found["w"].tolist() == exact.tolist()  # no site moved
    assert all(found[key] is value for key, value in statistics.items())
    kept = {"momentum": {"m/w"}, "adagrad": {"v/w"}}.get(name, {"m/w", "v/w"})
    assert optimiser.state().keys() == kept | {"steps"} and optimiser.state()["steps"] == 1


def test_a_restored_state_goes_on_where_it_was() -> None:
    experiment = build({"server-optimizer": "adam"})
    first, model = ServerOptimiser(experiment, ["w"]), {"w": np.zeros(3, np.float32)}
    means = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    for number, mean in enumerate(means):
        if number == 2:
            second = ServerOptimiser(experiment, ["w"])
            second.restore(first.state())
            first = second
        first.begin(pack(model))
        model = first.step(model, {"w": mean})
    straight, expected = ServerOptimiser(experiment, ["w"]), {"w": np.zeros(3, np.float32)}
    for mean in means:
        straight.begin(pack(expected))
        expected = straight.step(expected, {"w": mean})
    assert np.array_equal(model["w"], expected["w"])


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("wire", ["single", "half"])
def test_a_run_steps_every_parameter_and_no_buffer(tiny: Tiny, name: str, wire: str) -> None:
    experiment = tiny(method="fedavg", backbone="resnet8", server_optimizer=name, rounds=2, wire=wire)
    folder = run_local(experiment)
    kept = load_file(folder / "checkpoints" / "round-00002.safetensors")
    state = {key.removeprefix("optimiser/"): value for key, value in kept.items() if key.startswith("optimiser/")}
    parameters = {key for key, _ in build_model(experiment, 1, 10).named_parameters()}
    assert state.pop("steps") == 2
    assert {key.split("/", 1)[1] for key in state} == parameters
    assert all(np.isfinite(value).all() for value in kept.values())
    assert all((value >= 0).all() for key, value in kept.items() if key.endswith("running_var"))


def test_a_mean_that_is_not_finite_leaves_the_state_as_it_was(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_local(tiny(method="fedavg", server_optimizer="adam", rounds=3, run_name="whole"))
    real, failed = ServerOptimiser.step, []

    def failing(self: ServerOptimiser, *args: Any) -> Any:
        arrays = real(self, *args)
        if self.state()["steps"] == 2 and not failed:
            failed.append(True)
            return {
                key: value * np.float32(np.nan) if key.endswith("weight") else value for key, value in arrays.items()
            }
        return arrays

    monkeypatch.setattr(ServerOptimiser, "step", failing)
    monkeypatch.setattr(Round, "would_repeat", lambda *_: False)  # as if it were another site's fault
    again = run_local(tiny(method="fedavg", server_optimizer="adam", rounds=3, run_name="again"))
    assert failed
    last = "checkpoints/round-00003.safetensors"
    expected, found = load_file(whole / last), load_file(again / last)
    assert expected.keys() == found.keys() and found["optimiser/steps"] == 3
    assert all(np.array_equal(value, found[key]) for key, value in expected.items())


@pytest.mark.parametrize(("name", "method"), [("momentum", "fedloge"), ("adam", "creff"), ("yogi", "fedbn")])
def test_a_run_that_is_taken_up_equals_one_that_never_stopped(
    tiny: Tiny, name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"method": method, "server_optimizer": name, "rounds": 4, "participation": 0.7}
    whole = run_local(tiny(**values, run_name="whole"))
    real = FedStrategy._record_round

    def failing(self: FedStrategy) -> None:
        if self._round.number == 3:
            raise KeyboardInterrupt
        real(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FedStrategy, "_record_round", failing)
        run_local(tiny(**values, run_name="cut"))
    resumed = run_local(tiny(**values, run_name="cut", resume=True))
    last = "checkpoints/round-00004.safetensors"
    expected, found = load_file(whole / last), load_file(resumed / last)
    assert expected.keys() == found.keys() and any(key.startswith("optimiser/") for key in found)
    assert all(np.array_equal(value, found[key]) for key, value in expected.items())
