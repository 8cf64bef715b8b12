"""Each check of a reply refuses what it is for, and an honest reply passes them all."""

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message
from flwr.clientapp import ClientApp

from common import wire
from common.config import Experiment, build
from server_app.aggregation.mean import RunningMean
from server_app.aggregation.values import BadReplyError
from server_app.grids.local_grid import LocalGrid
from server_app.methods import ServerMethod
from server_app.rounds.messages import metric_names
from server_app.rounds.reply_checks import CHECKS, Broadcast, Incoming, first_refusal
from server_app.rounds.round import Round
from server_app.sites.discovery import SiteFacts

SITE = SiteFacts(node_id=1, num_train=5, num_test=4)
GOOD = {"num-examples": 5, "num-test": 4, "hits-arrival": 3, "loss-backbone": 1.5}
PERSONAL = {"num-examples": 5, "num-test": 4, "hits-final": 0}
NAN, INF = float("nan"), float("inf")
ARRIVAL = metric_names(("arrival",), multilabel=False)
END = metric_names(wire.STAGES, multilabel=False)
SEVERAL = metric_names(("arrival",), multilabel=True)
SENT = {"backbone.w": np.ones(2, np.float32), "backbone.bn.running_var": np.ones(2, np.float32)}
FOUND = {name: array + np.float32(0.5) for name, array in SENT.items()}


def incoming_of(
    metrics: dict[str, Any],
    *,
    model: bool = True,
    facts: SiteFacts = SITE,
    asked_for: frozenset[str] = ARRIVAL,
    trains: bool = True,
    arrays: wire.Arrays | None = None,
    experiment: Experiment | None = None,
) -> Incoming:
    """Return the reply of a site 'a' to round 3, as it comes."""
    LocalGrid(ClientApp(), 0)  # Flower stamps messages with the process's identity
    experiment = experiment or build({})
    sent = Message(wire.request(experiment, run="", server_round=3, model=wire.pack(SENT)), 1, wire.TRAIN)
    message = wire.metrics_reply(sent, metrics, (arrays or FOUND) if model else None)
    method = ServerMethod(experiment, Mock(dataset=Mock(classes=("a", "b"))))
    broadcast = Broadcast(experiment, SENT, RunningMean(SENT, max_step=10.0), method)
    return Incoming(message, "a", facts, Round(3, ["a"], asked_for), broadcast if trains else None)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    "incoming",
    [
        lambda: incoming_of(GOOD),
        lambda: incoming_of({"num-examples": 5}, asked_for=frozenset()),  # not asked to evaluate
        lambda: incoming_of({"num-examples": 0}, model=False, facts=SiteFacts(1, 0, 4)),
        lambda: incoming_of(
            {"num-examples": 5, "num-test": 4, "hits-final": 0}, model=False, asked_for=END, trains=False
        ),
        lambda: incoming_of(
            {"num-examples": 5, "num-test": 4, "macro_auc-arrival": 0.5, "undefined_auc-arrival": 3}, asked_for=SEVERAL
        ),
    ],
)
def test_a_reply_that_agrees_is_taken(incoming: Callable[[], Incoming]) -> None:
    assert first_refusal(incoming()) is None


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (GOOD | {"num-examples": NAN}, "num-examples = nan: not finite"),
        (GOOD | {"num-examples": INF}, "num-examples = inf"),
        (GOOD | {"num-examples": 10**12}, "declared 5"),
        (GOOD | {"num-examples": -5}, "declared 5"),
        (GOOD | {"loss-backbone": NAN}, "loss-backbone = nan"),
        (GOOD | {"hits-arrival": NAN}, "hits-arrival = nan"),
        (GOOD | {"hits-arrival": 10**9}, "the site has 4 test images"),
        (GOOD | {"hits-arrival": -1}, "the site has 4 test images"),
        (GOOD | {"hits-arrival": 2.5}, "hits-arrival = 2.5"),
        (GOOD | {"num-test": 3}, "num-test = 3.0: the site declared 4"),
        (without("num-test"), "num-test = None"),
        (without("num-examples"), "num-examples = None"),
        (GOOD | {"hits-final": 1}, "'hits-final' is no metric that a site is asked for here"),
        (without("hits-arrival") | {"macro_auc-arrival": 0.5}, "'macro_auc-arrival' is no metric"),
        (GOOD | {f"loss-{word * n}": 1.0 for n in range(1, 32) for word in "ab"}, "66 metrics, where at most 64"),
    ],
)
def test_a_reply_that_disagrees_is_refused(metrics: dict[str, Any], words: str) -> None:
    refusal = first_refusal(incoming_of(metrics))
    assert isinstance(refusal, BadReplyError) and words in str(refusal)


def test_metrics_are_those_of_the_labels_an_image_has() -> None:
    """One that has other metrics than the others' would otherwise end the run where their mean is taken."""
    several = {"num-examples": 5, "num-test": 4, "macro_auc-arrival": 0.5, "undefined_auc-arrival": 3}
    for odd in ({"macro_auc-arrival": 1.01}, {"mean_ap-arrival": NAN}, {"hits-arrival": 3}, {"macro_auc-final": 0.5}):
        refusal = first_refusal(incoming_of(several | odd, asked_for=SEVERAL))
        assert isinstance(refusal, BadReplyError) and next(iter(odd)) in str(refusal)


def test_a_model_comes_exactly_where_there_was_something_to_train_on() -> None:
    cases = [
        (incoming_of(GOOD, model=False), "no model came back"),
        (incoming_of({"num-examples": 0}, facts=SiteFacts(1, 0, 4)), "a model without training images"),
        (incoming_of({"num-examples": 5}, model=False, asked_for=END, trains=False), "num-test = None"),
    ]
    for incoming, words in cases:
        assert words in str(first_refusal(incoming))


def elsewhere(**changes: Any) -> Incoming:
    """Return an honest reply, changed in what the coordinator knows or in the message itself."""
    incoming = incoming_of(GOOD)
    if "site" in changes:
        incoming.site = changes["site"]
    incoming.now.responded |= changes.get("responded", set())
    if "round" in changes:
        incoming.message.content["config"] = ConfigRecord({"round": changes["round"], "frame-hash": ""})
    if "extras" in changes:
        incoming.message.content["extras"] = wire.pack(changes["extras"])
    if "record" in changes:
        incoming.message.content[changes["record"]] = ConfigRecord({})
    return incoming


def by_class_of(by_class: wire.Arrays, *, num_classes: int = 2, num_test: int = 4) -> Incoming:
    """Return a reply of the end with metrics by class, where so many classes were asked for."""
    facts = SiteFacts(1, 5, num_test)
    told = PERSONAL | {"num-test": num_test}
    incoming = incoming_of(told, model=False, facts=facts, asked_for=END, trains=False)
    incoming.now.num_classes = num_classes
    incoming.message.content["class-metrics"] = wire.pack(by_class)
    return incoming


def test_metrics_by_class_are_shares_or_not_measured() -> None:
    for good in (np.array([0.0, 1.0]), np.array([0.5, NAN]), np.full(2, NAN)):
        assert first_refusal(by_class_of({"final": good, "finetuned": good})) is None
    assert first_refusal(by_class_of({"final": np.full(2, NAN)}, num_test=0)) is None


@pytest.mark.parametrize(
    ("by_class", "more", "words"),
    [
        ({"arrival": np.ones(2)}, {}, "metrics by class of 'arrival', which nobody asked for"),
        ({"final": np.ones(2)}, {"num_classes": 0}, "metrics by class of 'final', which nobody asked for"),
        ({"final": np.ones(3)}, {}, "metrics by class are float64 (3,): not one number a class"),
        ({"final": np.ones((2, 1))}, {}, "metrics by class are float64 (2, 1): not one number a class"),
        ({"final": np.ones(2, np.float32)}, {}, "metrics by class are float32 (2,): not one number a class"),
        ({"final": np.array([1.1, NAN])}, {}, "not all are shares of 1"),
        ({"final": np.array([-0.1, 0])}, {}, "not all are shares of 1"),
        ({"realigned": np.array([INF, 0])}, {}, "not all are shares of 1"),
        ({"final": np.array([0.0, NAN])}, {"num_test": 0}, "metrics by class of no test image"),
    ],
)
def test_other_metrics_by_class_are_refused(by_class: wire.Arrays, more: dict[str, int], words: str) -> None:
    refusal = first_refusal(by_class_of(by_class, **more))
    assert isinstance(refusal, BadReplyError) and words in str(refusal)


REFUSED: dict[str, Callable[[], Incoming]] = {  # check: what it alone is there for
    "was_asked": lambda: elsewhere(site="node 7"),
    "answers_once": lambda: elsewhere(responded={"a"}),
    "is_readable": lambda: elsewhere(record="labels"),
    "is_of_this_round": lambda: elsewhere(round=2),
    "metrics_are_few": lambda: incoming_of(GOOD | {f"loss-{'a' * n}": 1.0 for n in range(1, 10)}),
    "metrics_were_asked_for": lambda: incoming_of(GOOD | {"hits-final": 1}),
    "metrics_are_finite": lambda: incoming_of(GOOD | {"loss-backbone": 1e10}),
    "trained_on_declared_images": lambda: incoming_of(GOOD | {"num-examples": 6}),
    "started_from_an_earlier_round": lambda: incoming_of(GOOD | {wire.STARTED_FROM: 3}),
    "tested_on_declared_images": lambda: incoming_of(GOOD | {"num-test": 3}),
    "metrics_are_in_range": lambda: incoming_of(GOOD | {"hits-arrival": 5}),
    "class_metrics_agree": lambda: by_class_of({"final": np.ones(2)}, num_classes=0),
    "brings_a_model_if_trained": lambda: incoming_of(GOOD, model=False),
    "extras_agree": lambda: elsewhere(extras={"class_counts": np.ones(2, np.float32)}),
    "precision_is_agreed": lambda: incoming_of(GOOD, experiment=build({"wire": "half"})),
    "arrays_agree": lambda: incoming_of(GOOD, arrays=FOUND | {"backbone.w": np.ones((2, 1), np.float32)}),
    "values_are_sound": lambda: incoming_of(GOOD, arrays=FOUND | {"backbone.bn.running_var": np.float32([1, -1])}),
    "step_is_bounded": lambda: incoming_of(GOOD, arrays=FOUND | {"backbone.w": np.float32([100, 100])}),
}


def test_every_check_has_a_reply_that_it_refuses() -> None:
    assert list(REFUSED) == [check.__name__ for check in CHECKS]


@pytest.mark.parametrize("name", REFUSED)
def test_each_check_refuses_what_those_before_it_let_through(name: str) -> None:
    incoming = REFUSED[name]()
    for check in CHECKS:
        if check.__name__ == name:
            with pytest.raises(wire.WireError):
                check(incoming)
            return
        check(incoming)
