"""Generated bad replies: none ends the run or changes the model; each is journaled: site, round, reason.

With those of `test_bad_extras.py` they are 3,960.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
from bad_replies import (
    BAD,
    FLOATS,
    GOOD,
    IMAGES,
    MODEL,
    NODES,
    ROUND,
    TESTED,
    Change,
    answer,
    bad_figures,
    bad_hellos,
    bad_replies,
    bad_words,
)
from bad_rounds import ask, check_round, check_told, experiment_of, lines_of, size_of, strategy_of
from flwr.app import ConfigRecord, Message
from flwr.clientapp import ClientApp
from hypothesis import given, settings
from hypothesis import strategies as st

from common import wire
from common.hello import hello_reply
from server_app.grids.local_grid import LocalGrid
from server_app.run.journal import Journal
from server_app.sites.discovery import discover_sites

AGGREGATIONS = [
    *({}, {"clip_norm": 0.3}, {"aggregation": "median"}, {"aggregation": "trimmed-mean"}),
    {"aggregation": "multi-krum", "wrong_sites": 1},
]


KINDS = [  # words of the reasons: each kind of bad reply was among those generated
    *(
        "a value is not finite",
        "a value is beyond",
        "a value is below 0",
        "max-step allows",
        "array names differ",
        " is needed",
        "no model came back",
    ),
    *(
        "metrics by class",
        "the site declared 7",
        "where a number is needed",
        "is no metric",
        "not finite",
        "belongs to round",
        "it says",
    ),
    *("was not asked in this round", "not in NumPy's own format", "KeyError", "2000 metrics", "test images"),
]


def test_no_bad_reply_changes_the_model(journals: Callable[..., Journal]) -> None:
    reported: list[str] = []

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
        reported.extend(reasons)

    each()
    assert len(reported) >= 2000
    assert [words for words in KINDS if not any(words in reason for reason in reported)] == []


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
    check_told(events, experiment.rounds.rounds + 1, list(BAD))
    (personal,) = [event for event in events if event["event"] == "personal"]
    assert sorted(personal["sites"]) == sorted(GOOD) and personal["mean"] == 3 / TESTED


@settings(max_examples=100)
@given(bad=st.lists(bad_hellos(), min_size=1, max_size=3))
def test_no_bad_hello_keeps_the_others_from_beginning(journals: Callable[..., Journal], bad: list[Any]) -> None:
    experiment = experiment_of()
    journal = journals(experiment)
    LocalGrid(ClientApp(), 0)

    def make(messages: list[Message]) -> list[Message]:
        good = hello_reply(messages[-1], site="good", num_train=1, num_test=1)
        return [*(reply(message) for reply, message in zip(bad, messages, strict=False)), good]

    start = size_of(journal)
    grid: Any = Answers(make, nodes=len(bad) + 1)
    assert list(discover_sites(grid, experiment, 1, journal)) == ["good"]
    assert [event["node"] for event in lines_of(journal, start)] == list(range(1, len(bad) + 1))
    assert all(event["reason"].isprintable() for event in lines_of(journal, start))


def test_a_second_answer_and_one_of_the_round_before_are_left_out(journals: Callable[..., Journal]) -> None:
    experiment = experiment_of()
    journal, numbers = journals(experiment), count()
    strategy = strategy_of(experiment, journal)
    before = ask(strategy, MODEL)
    replay = [answer(before[name], 100.0) for name in (*GOOD, *BAD)]
    first = [answer(before[name], 0.1 * next(numbers)) for name in (*GOOD, *BAD)]
    arrays, _ = strategy.aggregate_train(ROUND, first)
    assert arrays is not None
    sent = {name: value.numpy() for name, value in arrays.items()}
    messages = list(strategy.configure_train(ROUND + 1, arrays, ConfigRecord(), None))  # type: ignore[arg-type]
    asked = {message.metadata.dst_node_id: message for message in messages}
    good = [answer(asked[NODES[name]], 0.5) for name in GOOD]
    twice = answer(asked[NODES["good-0"]], 100.0)
    start = size_of(journal)
    after, _ = strategy.aggregate_train(ROUND + 1, [*good, twice, *replay[len(GOOD) :]])
    assert after is not None
    expected = {n: np.asarray(a + 0.5, a.dtype) if a.dtype.kind == "f" else a + 3 for n, a in MODEL.items()}
    assert sent.keys() == after.keys()
    for name, value in expected.items():
        assert np.array_equal(after[name].numpy(), value)
    reported = {e["site"]: e["reason"] for e in lines_of(journal, start) if e["event"] == "rejected"}
    assert reported["good-0"] == "has answered before in this round"
    assert {reported[name] for name in BAD} == {f"its reply belongs to round {ROUND}"}


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
    arrays, _ = strategy.aggregate_train(ROUND, [wire.metrics_reply(asked[name], figures, model) for name in GOOD])
    assert arrays is not None
    assert all(np.array_equal(arrays[name].numpy(), value) for name, value in model.items())
