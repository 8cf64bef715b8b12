"""3,600 bad replies, generated: none ends the run or changes the model; each is journaled: site, round, reason."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bad_replies import (
    BAD,
    COUNTS,
    FLOATS,
    GOOD,
    IMAGES,
    MODEL,
    NODES,
    ROUND,
    TESTED,
    Change,
    answer,
    bad_extras,
    bad_figures,
    bad_hellos,
    bad_replies,
    bad_words,
)
from flwr.app import ConfigRecord, Message
from flwr.clientapp import ClientApp
from hypothesis import given, settings
from hypothesis import strategies as st

from common import wire
from common.config import Experiment, build
from server_app.journal import Journal
from server_app.local_grid import LocalGrid
from server_app.methods import load as load_method
from server_app.sites import SiteFacts, greet
from server_app.strategy import FedStrategy


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Journal]:
    """Return a function that gives one journal an experiment: making its folder is the slow part."""
    made: dict[str, Journal] = {}

    def journal(experiment: Experiment) -> Journal:
        key = experiment.model_dump_json()
        if key not in made:
            made[key] = Journal(tmp_path_factory.mktemp("runs") / "run", experiment)
        return made[key]

    return journal


def strategy_of(experiment: Experiment, journal: Journal) -> FedStrategy:
    LocalGrid(ClientApp(), 0)  # Flower stamps messages with the process's identity
    sites = {name: SiteFacts(node, IMAGES, TESTED) for name, node in NODES.items()}
    federation: Any = SimpleNamespace(dataset=SimpleNamespace(classes=("a", "b")))
    method = load_method(experiment.method)(experiment, federation)
    return FedStrategy(experiment, sites, journal, None, None, method, done=ROUND - 1)  # type: ignore[arg-type]


def ask(strategy: FedStrategy, sent: wire.Arrays) -> dict[str, Message]:
    """Begin the round as Flower does, and return each site's message."""
    messages = strategy.configure_train(1, wire.pack(sent), ConfigRecord(), None)  # type: ignore[arg-type]
    by_node = {message.metadata.dst_node_id: message for message in messages}
    return {name: by_node[node] for name, node in NODES.items()}


def lines_of(journal: Journal, start: int) -> Iterator[dict[str, Any]]:
    with (journal.folder / "metrics.jsonl").open("rb") as file:
        file.seek(start)
        yield from (json.loads(line) for line in file)


def size_of(journal: Journal) -> int:
    path = journal.folder / "metrics.jsonl"
    return path.stat().st_size if path.exists() else 0


expected_of: dict[str, dict[str, bytes]] = {}  # what good replies alone make of a round, by experiment


def check_round(
    experiment: Experiment,
    journal: Journal,
    bad: list[tuple[str, Callable[[dict[str, Message]], Message]]],
    order: list[int],
    sent: wire.Arrays,
    good: Callable[[Message, int], Message],
) -> tuple[FedStrategy, list[str]]:
    """Aggregate good and bad replies in some order, compare with the good ones alone; return the reasons told."""
    key = experiment.model_dump_json()
    if key not in expected_of:
        alone = strategy_of(experiment, journal)
        asked = ask(alone, sent)
        arrays, _ = alone.aggregate_train(1, [good(asked[name], i) for i, name in enumerate(GOOD)])
        assert arrays is not None
        expected_of[key] = {name: array.data for name, array in arrays.items()}
    strategy = strategy_of(experiment, journal)
    asked = ask(strategy, sent)
    replies = [good(asked[name], i) for i, name in enumerate(GOOD)]
    for (_, make), place in zip(bad, order, strict=True):
        replies.insert(place, make(asked))
    start = size_of(journal)
    arrays, _ = strategy.aggregate_train(1, iter(replies))
    assert arrays is not None
    assert {name: array.data for name, array in arrays.items()} == expected_of[key]  # bit for bit
    events = list(lines_of(journal, start))
    assert [event["answered"] for event in events if event["event"] == "round"] == [len(GOOD)]
    return strategy, check_told(events, ROUND, [name for name, _ in bad])


def check_told(events: list[dict[str, Any]], server_round: int, bad: list[str]) -> list[str]:
    """Check that every bad reply and every silent site is in the journal, and return the reasons of the bad ones."""
    told = [event for event in events if event["event"] == "rejected"]
    silent = [name for name in BAD if name not in bad]
    assert sorted(event["site"] for event in told) == sorted([*bad, *silent])
    for event in told:
        assert event["round"] == server_round and event["reason"] and len(event["reason"]) < 320
        assert event["reason"].isprintable()
    return [event["reason"] for event in told if event["site"] in bad]


@cache
def experiment_of(**changes: Any) -> Experiment:
    values = {"method": "fedavg", "rounds": 100, "quorum": 0.1, "checkpoint-every": 1000, "output-dir": "/nowhere"}
    values |= {"evaluate-every": 1}
    return build(values | {key.replace("_", "-"): value for key, value in changes.items()})


AGGREGATIONS = [
    *({}, {"clip_norm": 0.3}, {"aggregation": "median"}, {"aggregation": "trimmed-mean"}),
    {"aggregation": "multi-krum", "wrong_sites": 1},
]


KINDS = [  # words of the reasons: each kind of bad reply was among those generated
    *("a value is not finite", "a value is beyond", "array names differ", " is needed", "no model came back"),
    *("the site declared 7", "where a number is needed", "is no figure", "not finite", "belongs to round", "it says"),
    *("was not asked in this round", "not in NumPy's own format", "KeyError", "2000 figures", "test images"),
]


def test_no_bad_reply_changes_the_model(journals: Callable[..., Journal]) -> None:
    told: list[str] = []

    @settings(max_examples=800)
    @given(
        st.tuples(*(bad_replies(name) for name in BAD)),
        st.lists(st.integers(0, 4), min_size=3, max_size=3),
        st.sampled_from(AGGREGATIONS),
    )
    def each(bad: tuple[Any, ...], order: list[int], changes: dict[str, Any]) -> None:
        experiment = experiment_of(**changes)
        _, reasons = check_round(
            experiment, journals(experiment), list(bad), order, MODEL, lambda m, i: answer(m, 0.1 * i)
        )
        told.extend(reasons)

    each()
    assert len(told) >= 2000
    assert [words for words in KINDS if not any(words in reason for reason in told)] == []


class Answers:
    """A grid that gives these replies."""

    def __init__(self, make: Callable[[list[Message]], list[Message]], nodes: int = 0) -> None:
        self._make, self._nodes = make, nodes

    def get_node_ids(self) -> list[int]:
        return list(range(1, self._nodes + 1))

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        return self._make(list(messages))


@settings(max_examples=100)
@given(st.lists(bad_figures | bad_words, min_size=3, max_size=3))
def test_no_bad_reply_ends_the_run_at_its_end(journals: Callable[..., Journal], changes: list[Change]) -> None:
    experiment = experiment_of()
    journal = journals(experiment)
    strategy = strategy_of(experiment, journal)

    def make(messages: list[Message]) -> list[Message]:
        asked = {message.metadata.dst_node_id: message for message in messages}
        replies = [answer(asked[NODES[name]], 0.0, None, "final") for name in (*BAD, *GOOD)]
        for reply, change in zip(replies, changes, strict=False):
            change(reply.content)
        return replies

    start = size_of(journal)
    strategy.personalise(Answers(make), wire.pack(MODEL))  # type: ignore[arg-type]
    events = list(lines_of(journal, start))
    check_told(events, experiment.rounds + 1, list(BAD))
    (personal,) = [event for event in events if event["event"] == "personal"]
    assert sorted(personal["sites"]) == sorted(GOOD) and personal["mean"] == 3 / TESTED


@settings(max_examples=100)
@given(bad=st.lists(bad_hellos(), min_size=1, max_size=3))
def test_no_bad_hello_keeps_the_others_from_beginning(journals: Callable[..., Journal], bad: list[Any]) -> None:
    experiment = experiment_of()
    journal = journals(experiment)
    LocalGrid(ClientApp(), 0)

    def make(messages: list[Message]) -> list[Message]:
        good = wire.hello_reply(messages[-1], site="good", num_train=1, num_test=1)
        return [*(reply(message) for reply, message in zip(bad, messages, strict=False)), good]

    start = size_of(journal)
    grid: Any = Answers(make, nodes=len(bad) + 1)
    assert list(greet(grid, experiment, 1, journal)) == ["good"]
    assert [event["node"] for event in lines_of(journal, start)] == list(range(1, len(bad) + 1))
    assert all(event["reason"].isprintable() for event in lines_of(journal, start))


@settings(max_examples=300)
@given(st.tuples(bad_extras, bad_extras, bad_extras), st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_no_bad_extra_changes_what_the_coordinator_keeps(
    journals: Callable[..., Journal], changes: tuple[Change, ...], order: list[int]
) -> None:
    def changed(site: str, change: Change) -> Callable[[dict[str, Message]], Message]:
        def reply(asked: dict[str, Message]) -> Message:
            made = answer(asked[site], 100.0, {"class_counts": COUNTS})
            change(made.content)
            return made

        return reply

    experiment = experiment_of(method="fedavg_la_global")
    bad = [(site, changed(site, change)) for site, change in zip(BAD, changes, strict=True)]
    sent = MODEL | {"class_weights": np.ones(2, np.float32)}
    good = {"class_counts": COUNTS}
    strategy, told = check_round(
        experiment, journals(experiment), bad, order, sent, lambda m, i: answer(m, 0.1 * i, good)
    )
    assert len(told) == len(BAD)
    assert sorted(strategy._method.state()) == list(GOOD)


def test_a_second_answer_and_one_of_the_round_before_are_left_out(journals: Callable[..., Journal]) -> None:
    experiment = experiment_of()
    journal, numbers = journals(experiment), count()
    strategy = strategy_of(experiment, journal)
    before = ask(strategy, MODEL)
    replay = [answer(before[name], 100.0) for name in (*GOOD, *BAD)]
    first = [answer(before[name], 0.1 * next(numbers)) for name in (*GOOD, *BAD)]
    arrays, _ = strategy.aggregate_train(1, first)
    assert arrays is not None
    sent = {name: value.numpy() for name, value in arrays.items()}
    messages = list(strategy.configure_train(2, arrays, ConfigRecord(), None))  # type: ignore[arg-type]
    asked = {message.metadata.dst_node_id: message for message in messages}
    good = [answer(asked[NODES[name]], 0.5) for name in GOOD]
    twice = answer(asked[NODES["good-0"]], 100.0)
    start = size_of(journal)
    after, _ = strategy.aggregate_train(2, [*good, twice, *replay[4:]])
    assert after is not None
    expected = {n: np.asarray(a + 0.5, a.dtype) if a.dtype.kind == "f" else a + 3 for n, a in MODEL.items()}
    assert sent.keys() == after.keys()
    for name, value in expected.items():
        assert np.array_equal(after[name].numpy(), value)
    told = {e["site"]: e["reason"] for e in lines_of(journal, start) if e["event"] == "rejected"}
    assert told["good-0"] == "has answered before in this round"
    assert {told[name] for name in BAD} == {f"its reply belongs to round {ROUND}"}


@settings(max_examples=100)
@given(st.lists(st.floats(-(2.0**-127), 2.0**-127, width=32), min_size=20, max_size=20))
def test_numbers_next_to_nothing_are_numbers(journals: Callable[..., Journal], values: list[float]) -> None:
    """Weights decay to such numbers at honest sites: they count for what they are."""
    experiment = experiment_of()
    strategy = strategy_of(experiment, journals(experiment))
    asked = ask(strategy, MODEL)
    tiny = dict(zip(FLOATS, np.split(np.array(values, np.float32), [12]), strict=True))
    model = MODEL | {name: tiny[name].reshape(MODEL[name].shape) for name in FLOATS}
    figures = {"num-examples": IMAGES, "loss-backbone": 5e-324}
    arrays, _ = strategy.aggregate_train(1, [wire.metrics_reply(asked[name], figures, model) for name in GOOD])
    assert arrays is not None
    assert all(np.array_equal(arrays[name].numpy(), value) for name, value in model.items())
