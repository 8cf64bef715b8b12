"""Within a long round it is said, now and then, how many sites have answered."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from common.config import Experiment
from server_app.engines.engines import run_local
from server_app.grids import local_grid, streaming
from server_app.grids.local_grid import LocalGrid
from server_app.grids.streaming import StreamingGrid
from server_app.rounds import progress
from server_app.rounds.progress import RoundProgress
from server_app.rounds.round import Round


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(progress.log, "info", lambda text, *words: said.append(text % words))
    return said


def test_a_long_round_has_lines_further_and_further_apart(lines: list[str]) -> None:
    clock = Clock()
    watched, now = RoundProgress(60, clock), Round(3, [f"site-{n:02}" for n in range(20)])
    watched.begin(now)
    times = []
    for second in range(4 * 3600):
        clock.now = 1000.0 + second
        if second in (5, 20, 90, 5000, 5001):
            now.responded.add(f"site-{len(now.responded):02}")
        before = len(lines)
        watched.log_if_due()
        times += [second] * (len(lines) - before)
    assert lines[:3] == [
        "round 3/60: 1 of 20 sites have answered, 0:10",
        "round 3/60: 2 of 20 sites have answered, 0:40",
        "round 3/60: 2 of 20 sites have answered, 1:10",
    ]
    assert lines[-1].startswith("round 3/60: 5 of 20 sites have answered, 3:5")
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == sorted(gaps) and gaps[0] == 30 and gaps[-1] == 300 and len(times) < 70


def test_the_last_sites_are_named_and_then_nothing_is_said(lines: list[str]) -> None:
    clock = Clock()
    watched, now = RoundProgress(2, clock), Round(3, ["east", "north", "west"])
    watched.begin(now)
    clock.now += 15
    watched.log_if_due()
    now.responded |= {"east", "north"}
    clock.now += 50
    watched.log_if_due()
    now.responded.add("west")
    clock.now += 500
    watched.log_if_due()
    assert lines == [
        "personal models: 0 of 3 sites have answered, 0:15",
        "personal models: 2 of 3 sites have answered, 1:05; not yet: west",
    ]


def test_a_short_round_says_nothing_of_its_own(lines: list[str]) -> None:
    clock = Clock()
    watched = RoundProgress(9, clock)
    for number in range(1, 9):
        watched.begin(Round(number, ["east", "north"]))
        clock.now += 9.5
        watched.log_if_due()
    assert lines == []


def test_flowers_grid_has_a_look_while_it_waits(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No site has said anything yet."""
    clock = Clock()
    LocalGrid(ClientApp(), 0)  # Flower stamps messages with the process's identity

    class Link:
        def push_messages(self, messages: Any) -> list[str]:
            return [f"m{message.metadata.dst_node_id}" for message in messages]

        def pull_messages(self, message_ids: Any) -> Iterator[Message]:
            return iter(())

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(streaming.time, "monotonic", clock)
    monkeypatch.setattr(streaming.time, "sleep", sleep)
    link: Any = Link()
    watched = RoundProgress(5, clock)
    grid = StreamingGrid(link)
    grid.on_wait = watched.log_if_due
    watched.begin(Round(1, ["east", "north"]))
    messages = [Message(RecordDict(), node, "train") for node in (1, 2)]
    assert list(grid.send_and_receive(messages, timeout=60)) == []
    assert [line.rpartition(" ")[2] for line in lines] == ["0:10", "0:40"]
    assert lines[0] == "round 1/5: 0 of 2 sites have answered, 0:10"


@pytest.mark.parametrize("ahead", [False, True])
def test_a_run_in_this_process_says_it_too(
    tiny: Callable[..., Experiment], lines: list[str], monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    monkeypatch.setattr(progress, "_FIRST", 0.0)
    monkeypatch.setattr(progress, "_SPACING", (0.0, 0.0))
    monkeypatch.setattr(progress, "_SHARE", 0.0)
    monkeypatch.setattr(local_grid, "_LOOK_SECONDS", 0.001)
    monkeypatch.setattr("server_app.engines.engines.works_ahead", lambda _: ahead)
    run_local(tiny(method="fedavg"))
    found = {line.partition(", ")[0] for line in lines if "have answered" in line}
    expected = {f"{what}: {n} of 3 sites have answered" for what in ("round 1/2", "round 2/2") for n in (1, 2)}
    assert expected <= found
    assert ("round 1/2: 0 of 3 sites have answered" in found) == ahead
    assert any(line.startswith("personal models: 2 of 3") for line in found)
