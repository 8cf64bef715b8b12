"""An optimiser whose state a site keeps: its rounds are one training, as if it had never stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compared_runs import PowerCutError, arrays_of, metrics_of
from safetensors.numpy import load_file
from torch.nn.functional import cross_entropy

from client_app.site.site import simulated_site
from client_app.training.loop import _epoch
from common.config import Experiment
from common.models.model import build_model
from common.seeds import numpy_generator
from server_app.engines.engines import run_local
from server_app.rounds.strategy import FedStrategy
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
OPTIMISERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.8, "nesterov": True},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
}


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("kept", [True, False])
def test_rounds_of_a_lone_site_are_one_training_where_its_optimiser_is_kept(tiny: Tiny, name: str, kept: bool) -> None:
    """FedAvg of one site: the mean is its model, so that only the optimiser tells rounds apart."""
    values = {"method": "fedavg", "sites": 1, "rounds": 3, "optimizer_state": "kept" if kept else "reset"}
    experiment = tiny(**values, **OPTIMISERS[name])
    found = load_file(run_local(experiment) / "generic.safetensors")
    site = simulated_site(experiment, 0)
    model, keys = build_model(experiment, 1, 10), experiment.train
    model.train()
    small = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1]}, {"params": small, "weight_decay": 0.0}]

    def optimiser() -> torch.optim.Optimizer:
        if name == "sgd":
            return torch.optim.SGD(model.parameters(), keys.learning_rate, momentum=0.8, nesterov=True)
        return torch.optim.AdamW(groups, keys.learning_rate, weight_decay=0.1)

    mine = optimiser()
    for server_round in (1, 2, 3):
        mine = mine if kept else optimiser()
        order = numpy_generator(experiment.run.seed, "batches", site.name, server_round)
        # the same images, bit for bit: Adam divides by tiny gradients, in which rounding shows
        rngs = order, torch.Generator(), order
        for images, labels, _ in _epoch(model, None, site, rngs, torch.device("cpu")):
            assert model.aux_head is not None
            loss = cross_entropy(model.aux_head(model(images)), labels)
            mine.zero_grad()
            loss.backward()
            mine.step()
    for key, value in model.state_dict().items():
        np.testing.assert_allclose(found[key], value.numpy(), rtol=1e-6, atol=1e-7, err_msg=key)


def stopped(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, **values: Any) -> Path:
    """Return the folder of a run that lost its third round."""
    real = FedStrategy._record_round

    def failing(self: FedStrategy) -> None:
        if self._round.number == 3:
            raise PowerCutError
        real(self)

    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(FedStrategy, "_record_round", failing)
        run_local(tiny(**values, run_name="cut"))
    return Path(tiny().run.output_dir) / "cut"


@pytest.mark.parametrize(
    ("method", "name"), [("fedavg", "adamw"), ("fedrep", "sgd"), ("fedloge", "adamw"), ("fedbn", "sgd")]
)
def test_a_run_that_is_taken_up_goes_on_with_the_kept_states(
    tiny: Tiny, method: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"method": method, "rounds": 4, "local_epochs": 2, "participation": 0.7, "optimizer_state": "kept"}
    values |= OPTIMISERS[name]
    whole = run_local(tiny(**values, run_name="whole"))
    stopped(tiny, monkeypatch, **values)
    resumed = run_local(tiny(**values, run_name="cut", resume=True))
    expected, found = arrays_of(whole), arrays_of(resumed)
    assert expected.keys() == found.keys() and any("optimiser/" in key for key in expected)
    assert not any("optimiser/" in key for key in expected if "personal_model" in key or "generic" in key)
    assert all(np.array_equal(expected[key], found[key]) for key in expected)
    assert metrics_of(resumed) == metrics_of(whole)


def test_a_lost_state_is_told(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {"method": "fedavg", "rounds": 4, "optimizer_state": "kept"}
    folder = stopped(tiny, monkeypatch, **values)
    for path in (folder / "sites" / "site-01").glob("personal-*"):
        path.unlink()
    run_local(tiny(**values, run_name="cut", resume=True))
    lost = [(e["what"], e["site"], e["had"], e["has"]) for e in read_events(folder) if e["event"] == "lost"]
    assert lost == [("personal parts", "site-01", 2, 0)]
