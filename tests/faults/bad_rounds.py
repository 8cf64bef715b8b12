"""One round with bad replies among good ones, compared with the good ones alone."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

from bad_replies import (
    BAD,
    GOOD,
    IMAGES,
    NODES,
    ROUND,
    TESTED,
)
from flwr.app import ConfigRecord, Message
from flwr.clientapp import ClientApp

from common import wire
from common.config import Experiment, build
from server_app.grids.local_grid import LocalGrid
from server_app.methods import load as load_method
from server_app.rounds.strategy import FedStrategy
from server_app.run.journal import Journal
from server_app.sites.discovery import SiteFacts


def strategy_of(experiment: Experiment, journal: Journal, multilabel: bool = False) -> FedStrategy:
    LocalGrid(ClientApp(), 0)  # Flower stamps messages with the process's identity
    sites = {name: SiteFacts(node, IMAGES, TESTED) for name, node in NODES.items()}
    federation: Any = SimpleNamespace(dataset=SimpleNamespace(classes=("a", "b")))
    method = load_method(experiment.method)(experiment, federation)
    evaluation: Any = federation  # of which the classes alone are asked
    return FedStrategy(experiment, sites, journal, None, evaluation, method, done=ROUND - 1, multilabel=multilabel)


def ask(strategy: FedStrategy, sent: wire.Arrays) -> dict[str, Message]:
    """Begin the round as `start` does, and return each site's message."""
    messages = strategy.configure_train(ROUND, wire.pack(sent), ConfigRecord(), None)  # type: ignore[arg-type]
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
    multilabel: bool = False,
) -> tuple[FedStrategy, list[str]]:
    """Aggregate good and bad replies in some order, compare with the good ones alone; return the reasons reported."""
    key = experiment.model_dump_json()
    if key not in expected_of:
        alone = strategy_of(experiment, journal, multilabel)
        asked = ask(alone, sent)
        arrays, _ = alone.aggregate_train(ROUND, [good(asked[name], i) for i, name in enumerate(GOOD)])
        assert arrays is not None
        expected_of[key] = {name: array.data for name, array in arrays.items()}
    strategy = strategy_of(experiment, journal, multilabel)
    asked = ask(strategy, sent)
    replies = [good(asked[name], i) for i, name in enumerate(GOOD)]
    for (_, make), place in zip(bad, order, strict=True):
        replies.insert(place, make(asked))
    start = size_of(journal)
    arrays, _ = strategy.aggregate_train(ROUND, iter(replies))
    assert arrays is not None
    assert {name: array.data for name, array in arrays.items()} == expected_of[key]  # bit for bit
    events = list(lines_of(journal, start))
    assert [event["answered"] for event in events if event["event"] == "round"] == [len(GOOD)]
    return strategy, check_told(events, ROUND, [name for name, _ in bad])


def check_told(events: list[dict[str, Any]], server_round: int, bad: list[str]) -> list[str]:
    """Check that every bad reply and every silent site is in the journal, and return the reasons of the bad ones."""
    reported = [event for event in events if event["event"] == "rejected"]
    silent = [name for name in BAD if name not in bad]
    assert sorted(event["site"] for event in reported) == sorted([*bad, *silent])
    for event in reported:
        assert event["round"] == server_round and event["reason"] and len(event["reason"]) < 320
        assert event["reason"].isprintable()
    return [event["reason"] for event in reported if event["site"] in bad]


@cache
def experiment_of(**changes: Any) -> Experiment:
    values = {"method": "fedavg", "rounds": 100, "quorum": 0.1, "checkpoint-every": 1000, "output-dir": "/nowhere"}
    values |= {"evaluate-every": 1, "round-retries": 0}
    return build(values | {key.replace("_", "-"): value for key, value in changes.items()})
