"""Numbers that are numbers and still no model: variances below 0, steps out of all proportion, outputs not finite."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flaky_grid import FlakyGrid
from flwr.app import Message
from safetensors.numpy import load_file

from common import wire
from common.config import Experiment
from common.data import build_federation
from common.errors import RefusalError
from common.methods import METHODS
from common.models.model import shared_state
from server_app.app import run
from server_app.engines.engines import run_local
from server_app.generic.evaluation import GenericEvaluation
from server_app.methods.creff import FederatedFeatures
from server_app.run.journal import read_events
from server_app.run.metrics import generic_facts, primary

Tiny = Callable[..., Experiment]
Change = Callable[[wire.Request, wire.Arrays], wire.Arrays]


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def change_replies(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Have the models of sites' replies changed on their way."""
    real = wire.metrics_reply

    def answer(message: Message, metrics: Any, model: Any = None, *more: Any, **named: Any) -> Message:
        return real(message, metrics, model and change(wire.Request(message), dict(model)), *more, **named)

    monkeypatch.setattr(wire, "metrics_reply", answer)


def once_a_round(rounds: set[int], change: Callable[[wire.Arrays], wire.Arrays]) -> Change:
    """Change the first reply of each of these rounds: that of site-00."""
    left = set(rounds)

    def changed(request: wire.Request, model: wire.Arrays) -> wire.Arrays:
        if request.round not in left:
            return model
        left.remove(request.round)
        return change(model)

    return changed


def test_a_variance_below_0_from_one_site_is_left_out(tiny_for: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def poison(model: wire.Arrays) -> wire.Arrays:
        return {n: np.full_like(a, -1e6) if n.endswith("running_var") else a for n, a in model.items()}

    change_replies(monkeypatch, once_a_round({1, 2}, poison))
    events = read_events(run_local(tiny_for("fedavg", multilabel=True, max_step=None)))
    reported = [
        (event["round"], event["site"], "a value is below 0" in event["reason"]) for event in of(events, "rejected")
    ]
    assert reported == [(1, "site-00", True), (2, "site-00", True)]
    assert all(0 < event["macro_auc"] <= 1 for event in of(events, "generic"))


def test_a_step_out_of_all_proportion_is_left_out_and_the_others_are_in_the_journal(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def huge(model: wire.Arrays) -> wire.Arrays:
        return {n: np.full_like(a, 1e5) if a.dtype.kind == "f" else a for n, a in model.items()}

    change_replies(monkeypatch, once_a_round({2}, huge))
    events = read_events(run_local(tiny(rounds=3)))
    (rejected,) = of(events, "rejected")
    assert (rejected["round"], rejected["site"]) == (2, "site-00") and "where max-step allows" in rejected["reason"]
    first, second, third = (event["steps"] for event in of(events, "round"))
    assert sorted(first) == sorted(third) == ["site-00", "site-01", "site-02"]
    assert sorted(second) == ["site-01", "site-02"]
    assert all(0 < step < 10 for steps in (first, second, third) for step in steps.values())


def test_where_a_step_is_allowed_the_end_says_where_to_look(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """One site spoils round 2; all others diverge from then on, and would be blamed."""

    def spoil(model: wire.Arrays) -> wire.Arrays:
        return {n: np.full_like(a, 1e8) if n.endswith("weight") else a for n, a in model.items()}

    change_replies(monkeypatch, once_a_round({2}, spoil))
    with pytest.raises(
        wire.WireError,
        match=r"its checkpoint stays: it would diverge again\. Training diverged.*; the last checkpoint is of round 2",
    ) as end:
        run_local(tiny(rounds=4, max_step=None, method="fedavg", round_retries=0))
    assert "(kept are 1, 2)" in str(end.value) and "clip-norm" in str(end.value)
    events = read_events(tiny().run.output_dir / "run")
    steps = of(events, "round")[1]["steps"]
    assert max(steps, key=steps.__getitem__) == "site-00" and steps["site-00"] > 1e6 * steps["site-01"]


@pytest.mark.parametrize(("rate", "said"), [(1e12, "beyond 1e+09"), (1e30, "its loss 'backbone' is nan")])
def test_where_round_1_diverges_a_smaller_step_is_what_may_help(tiny: Tiny, rate: float, said: str) -> None:
    """There is no checkpoint yet; the coordinator sees it, or the sites themselves say it."""
    with pytest.raises(wire.WireError, match=r"^round 1: 0 of 3 replies could be used") as end:
        run_local(tiny(method="fedavg", learning_rate=rate, round_retries=0))
    assert "checkpoint" not in str(end.value)
    assert str(end.value).endswith("again. Training diverged: in a new run a smaller learning-rate may help")
    assert "resume" not in str(end.value)  # it would go on as it did
    rejected = of(read_events(tiny().run.output_dir / "run"), "rejected")
    assert len(rejected) == 3 and all(said in event["reason"] for event in rejected)


def test_what_would_diverge_again_is_not_repeated(tiny: Tiny) -> None:
    with pytest.raises(wire.WireError, match=r"The run ends: it would diverge again\. .* a smaller learning-rate"):
        run_local(tiny(method="fedavg", learning_rate=1e30, round_retries=5))
    events = read_events(tiny().run.output_dir / "run")
    assert len(of(events, "no-quorum")) == 1 and len(of(events, "rejected")) == 3


def test_where_other_sites_are_asked_a_round_is_repeated_until_all_have_diverged(tiny: Tiny) -> None:
    """One of five sites a round, drawn anew each time: it ends where one is drawn that has diverged already."""
    with pytest.raises(wire.WireError, match="it would diverge again"):
        run_local(tiny(method="fedavg", learning_rate=1e30, sites=5, participation=0.2, round_retries=99))
    asked = [event["asked"] for event in of(read_events(tiny().run.output_dir / "run"), "no-quorum")]
    assert 1 < len(asked) < 7


def test_real_sites_that_diverge_are_asked_once_more(flaky_sites: Any) -> None:
    """Their sums differ from one time to the next, and a setting at a site may have been corrected."""
    sites, experiment = flaky_sites("north", "south", learning_rate=1e30, round_retries=5, method="fedavg")
    with pytest.raises(wire.WireError, match="it would diverge again"):
        run(FlakyGrid(sites, lambda _: True), experiment)
    events = read_events(experiment.run.output_dir / "run")
    assert len(of(events, "no-quorum")) == 2 and len(of(events, "rejected")) == 4


@pytest.mark.parametrize("bad", [{"site-00", "site-01"}, {"site-02"}])
def test_a_simulated_site_whose_fine_tuning_diverges_is_not_asked_again(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, bad: set[str]
) -> None:
    real = wire.metrics_reply

    def answer(message: Message, *more: Any, **named: Any) -> Message:
        if wire.Request(message).round == 2 and f"site-{message.metadata.dst_node_id - 1:02}" in bad:
            raise RefusalError("training diverged, its loss 'personal_head' is nan")
        return real(message, *more, **named)

    monkeypatch.setattr(wire, "metrics_reply", answer)
    experiment = tiny(rounds=1, finetune_epochs=1, round_retries=5)
    if len(bad) == 1:
        run_local(experiment)  # two of three are enough
    else:
        with pytest.raises(wire.WireError, match=r"diverged at site-00, site-01, .*finetune-learning-rate may help"):
            run_local(experiment)
    rejected = of(read_events(experiment.run.output_dir / "run"), "rejected")
    assert sorted((event["round"], event["site"]) for event in rejected) == [(2, site) for site in sorted(bad)]


def test_a_real_site_says_that_it_diverged(flaky_sites: Any) -> None:
    """Other errors stay in its own log."""
    sites, experiment = flaky_sites("north", "south", learning_rate=1e30, round_retries=0, method="fedavg")
    with pytest.raises(wire.WireError, match="Training diverged: in a new run a smaller learning-rate may help"):
        run(FlakyGrid(sites, lambda _: True), experiment)
    reasons = [event["reason"] for event in of(read_events(experiment.run.output_dir / "run"), "rejected")]
    assert len(reasons) == 2 and all("its loss 'backbone' is nan" in reason for reason in reasons)


@pytest.mark.parametrize("several", [False, True])
def test_outputs_that_are_not_finite_give_no_figure_and_end_nothing(
    tiny_for: Tiny, several: bool, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = tiny_for("fedavg", multilabel=several)
    federation = build_federation(experiment)
    groups: dict[str, list[int]] = {"many": [0], "medium": [1], "few": [2]}
    evaluation = GenericEvaluation(experiment, federation.dataset, groups, None)
    model = shared_state(evaluation.model, METHODS["fedavg"])
    logging.getLogger("fednc").addHandler(caplog.handler)
    try:
        sound = evaluation(model)["aux_head"]
        report = evaluation(model | {"aux_head.weight": np.full_like(model["aux_head.weight"], 3e38)})["aux_head"]
    finally:
        logging.getLogger("fednc").removeHandler(caplog.handler)
    assert primary(sound) >= 0 and np.isnan(primary(report))
    assert generic_facts(report).keys() == generic_facts(sound).keys()
    assert "generic model, aux_head: outputs are not finite" in caplog.text


def test_a_coordinators_half_that_diverges_is_taken_back_and_ends_the_run(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, unless a site failed too, without which it may come out otherwise: then the round is repeated."""
    values: dict[str, Any] = {"method": "creff", "rounds": 3, "creff_features": 2, "creff_match_steps": 2}
    whole = run_local(tiny(**values, run_name="whole"))
    real, real_reply, odd, failing = FederatedFeatures.finish, wire.metrics_reply, list[int](), list[int]()

    def finish(self: FederatedFeatures, sent: Any, mean: Any, server_round: int) -> Any:
        parts, facts = real(self, sent, mean, server_round)
        if server_round in odd:
            odd.remove(server_round)
            parts = {name: np.full_like(array, np.nan) for name, array in parts.items()}
        return parts, facts

    def answer(message: Message, *more: Any, **named: Any) -> Message:
        if wire.Request(message).round in failing:
            failing.pop()
            raise RuntimeError("scanner on fire")
        return real_reply(message, *more, **named)

    monkeypatch.setattr(FederatedFeatures, "finish", finish)
    monkeypatch.setattr(wire, "metrics_reply", answer)
    odd[:], failing[:] = [2], [2]
    again = run_local(tiny(**values, run_name="again"))
    assert [event["round"] for event in of(read_events(again), "no-quorum")] == [2] and not odd + failing
    ours, theirs = (load_file(folder / "generic.safetensors") for folder in (whole, again))
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
    odd[:] = [2]
    with pytest.raises(wire.WireError, match="it would diverge again"):
        run_local(tiny(**values, run_name="ended"))
