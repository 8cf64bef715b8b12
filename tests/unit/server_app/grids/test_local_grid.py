import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from unittest.mock import Mock

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from waiting import wait_until

from common.config import Experiment
from server_app.aggregation.mean import RunningMean
from server_app.grids.local_grid import LocalGrid
from server_app.rounds.progress import RoundProgress
from server_app.rounds.reply_checks import Broadcast
from server_app.rounds.reply_filter import ReplyFilter
from server_app.rounds.round import Round
from server_app.run.journal import Journal


def echo_app() -> ClientApp:
    app = ClientApp()

    @app.query()
    def answer(message: Message, context: Context) -> Message:
        seen = context.state.config_records.get("seen") or ConfigRecord({"times": 0})
        seen["times"] = int(seen["times"]) + 1  # type: ignore[arg-type]
        context.state["seen"] = seen
        if context.node_config["partition-id"] == 2:
            raise RuntimeError("no luck")
        return Message(RecordDict({"seen": seen}), reply_to=message)

    return app


def ask(grid: LocalGrid, *nodes: int) -> list[Message]:
    return [Message(RecordDict(), node, "query", group_id="1") for node in nodes]


def test_nodes_answer_in_order_and_keep_their_state() -> None:
    grid = LocalGrid(echo_app(), 3)
    assert list(grid.get_node_ids()) == [1, 2, 3]
    for times in (1, 2):
        replies = list(grid.send_and_receive(ask(grid, 2, 1)))
        assert [r.metadata.src_node_id for r in replies] == [2, 1]
        assert [r.content["seen"]["times"] for r in replies] == [times, times]


def test_an_exception_at_a_site_is_an_error_reply() -> None:
    grid = LocalGrid(echo_app(), 3)
    good, bad = grid.send_and_receive(ask(grid, 1, 3))
    assert not good.has_error() and bad.has_error()
    assert "no luck" in bad.error.reason
    assert bad.metadata.src_node_id == 3


def test_replies_are_made_one_at_a_time() -> None:
    grid = LocalGrid(echo_app(), 2)
    replies = grid.send_and_receive(ask(grid, 1, 2))
    next(iter(replies))
    (late,) = grid.send_and_receive(ask(grid, 2))
    assert late.content["seen"]["times"] == 1  # the second message had not been answered yet


def test_sites_that_work_ahead_are_one_ahead() -> None:
    """While a reply is looked at, the next site works, in the grid's one thread, and no other."""
    seen: list[tuple[int, str]] = []
    app = ClientApp()

    @app.query()
    def answer(message: Message, context: Context) -> Message:
        seen.append((context.node_id, threading.current_thread().name))
        if context.node_id == 2:
            raise RuntimeError("no luck")
        return Message(RecordDict(), reply_to=message)

    grid = LocalGrid(app, 4, ahead=True)
    replies = grid.send_and_receive(ask(grid, 1, 2, 3, 4))
    assert next(replies).metadata.src_node_id == 1
    assert next(replies).has_error()
    wait_until(lambda: len(seen) == 3, 60, "the third site works")
    replies.close()  # the third is under way: it is waited for, and the fourth never asked
    assert [node for node, _ in seen] == [1, 2, 3]
    assert [r.metadata.src_node_id for r in grid.send_and_receive(ask(grid, 4, 1))] == [4, 1]
    assert len({name for _, name in seen}) == 1 and threading.current_thread().name not in {n for _, n in seen}
    assert list(grid.send_and_receive(ask(grid, 1, 2), timeout=-1)) == []


def slow_app(begun: list[int], ended: list[int]) -> ClientApp:
    app = ClientApp()

    @app.query()
    def answer(message: Message, context: Context) -> Message:
        begun.append(context.node_id)
        time.sleep(0.2)  # a site that takes its time
        ended.append(context.node_id)
        return Message(RecordDict(), reply_to=message)

    return app


@pytest.mark.parametrize("trains", [True, False])
def test_whatever_ends_a_round_ends_the_work_ahead(
    tiny: Callable[..., Experiment], tmp_path: Path, trains: bool
) -> None:
    """Or a site would still train, and write, when the folder is another run's already."""
    begun, seen = list[int](), list[int]()
    app = slow_app(begun, seen)
    grid = LocalGrid(app, 4, ahead=True)
    reply_filter = ReplyFilter({}, Journal(tmp_path / "run", tiny()), RoundProgress(1))
    broadcast = Broadcast(tiny(), {}, RunningMean({}), Mock()) if trains else None
    replies = grid.send_and_receive(ask(grid, 1, 2, 3, 4))
    with pytest.raises(KeyboardInterrupt), reply_filter.usable(replies, Round(1, []), broadcast) as usable:
        assert next(replies).metadata.src_node_id == 1
        next(usable, None)  # all four would be refused: nobody was asked
        raise KeyboardInterrupt
    assert seen == [1, 2, 3, 4]
    begun.clear()
    seen.clear()
    replies = grid.send_and_receive(ask(grid, 1, 2, 3, 4))
    with pytest.raises(KeyboardInterrupt), reply_filter.usable(replies, Round(1, []), broadcast):
        assert next(replies).metadata.src_node_id == 1
        wait_until(lambda: 2 in begun, 60, "the second site works")
        raise KeyboardInterrupt
    assert seen == [1, 2]
    assert list(grid.send_and_receive(ask(grid, 1)))  # the grid's one thread has no other work before this
    assert seen == [1, 2, 1]


def test_an_interrupt_while_a_site_is_waited_for_waits_for_it_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, seen = list[int](), list[int]()

    def interrupted(future: Future[object], timeout: float) -> None:
        wait_until(lambda: 1 in begun, 60, "the first site works")
        raise KeyboardInterrupt

    grid = LocalGrid(slow_app(begun, seen), 3, ahead=True)
    replies = grid.send_and_receive(ask(grid, 1, 2, 3))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Future, "result", interrupted)
        next(replies)
    assert seen == [1]  # the second was under way in name only
    assert list(grid.send_and_receive(ask(grid, 3)))  # the grid's one thread has no other work before this
    assert seen == [1, 3]


def test_a_reply_past_the_timeout_is_dropped_and_the_others_are_asked_all_the_same() -> None:
    grid = LocalGrid(echo_app(), 2)
    assert list(grid.send_and_receive(ask(grid, 1, 2), timeout=-1)) == []
    assert [r.content["seen"]["times"] for r in grid.send_and_receive(ask(grid, 1, 2), timeout=60)] == [2, 2]


def test_push_then_pull_works_as_in_flower() -> None:
    grid = LocalGrid(echo_app(), 2)
    ids = list(grid.push_messages(ask(grid, 1, 2)))
    assert len(list(grid.pull_messages(ids))) == 2
    assert list(grid.pull_messages(ids)) == []
    with pytest.raises(NotImplementedError):
        _ = grid.run
