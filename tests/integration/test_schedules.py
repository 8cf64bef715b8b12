"""A schedule over rounds: every site trains at the round's rate, and a run that is taken up goes on with it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compared_runs import PowerCutError, arrays_of, metrics_of

import client_app.app
from client_app.training import loop
from common.config import Experiment
from common.rates import round_factor
from server_app.compare.cells import Cell, data_fingerprint
from server_app.engines.engines import run_local
from server_app.rounds.strategy import FedStrategy
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
KEYS: dict[str, Any] = {"rounds": 5, "schedule": "cosine", "warmup_rounds": 1, "participation": 0.4, "sites": 5}


def test_sites_train_at_the_rate_of_the_round_whichever_they_missed(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, real = tiny(method="fedetf", finetune_epochs=1, learning_rate=0.05, **KEYS), loop.train_site
    rates: dict[int, set[float]] = {}

    def watching(model: Any, method: Any, site: Any, server_round: int, **options: Any) -> dict[str, float]:
        rates.setdefault(server_round, set()).add(options["learning_rate"])
        return real(model, method, site, server_round, **options)

    monkeypatch.setattr(client_app.app, "train_site", watching)
    folder = run_local(experiment)
    expected = {r: {0.05 * round_factor(experiment, r)} for r in range(1, 6)}
    assert rates == expected | {0: {0.003}}  # fine-tuning
    told = {e["round"]: e["rate"] for e in read_events(folder) if e["event"] == "round"}
    assert told == {r: round_factor(experiment, r) for r in range(1, 6)}


def test_a_run_that_is_taken_up_goes_on_with_its_schedule(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_local(tiny(**KEYS, run_name="whole"))
    real = FedStrategy._record_round

    def failing(self: FedStrategy) -> None:
        if self._round.number == 4:
            raise PowerCutError
        real(self)

    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(FedStrategy, "_record_round", failing)
        run_local(tiny(**KEYS, run_name="cut"))
    resumed = run_local(tiny(**KEYS, run_name="cut", resume=True))
    expected, found = arrays_of(whole), arrays_of(resumed)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[key], found[key]) for key in expected)
    assert metrics_of(resumed) == metrics_of(whole)


@pytest.mark.parametrize(("method", "same"), [("fedloge", False), ("fedavg", True)])
@pytest.mark.parametrize("epochs", [0, 1])
def test_a_result_of_before_frames_had_a_rate_of_fine_tuning_is_one_at_the_learning_rate(
    tiny: Tiny, method: str, same: bool, epochs: int
) -> None:
    cell = Cell(tiny(method=method, finetune_epochs=epochs))
    older = {key: value for key, value in cell.experiment.dump().items() if key != "schedule"}
    result = {"experiment": older, "data": data_fingerprint(cell.experiment)}
    assert cell.made(result) == (same or not epochs)
    explicit = Cell(cell.experiment.replace(finetune_learning_rate=0.03))
    assert explicit.made(result) == (not same or not epochs)
