"""Replies of a Flower run, as they arrive."""

from collections.abc import Iterable
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.clientapp import ClientApp

from server_app.grids import streaming
from server_app.grids.local_grid import LocalGrid
from server_app.grids.streaming import StreamingGrid


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_POLL_SECONDS", (0.01, 0.01))


class Link:
    """A SuperLink: it numbers messages, refuses those to node 9, and answers for node 2, which died, by itself."""

    def __init__(self) -> None:
        LocalGrid(ClientApp(), 0)  # Flower stamps messages with the process's identity
        self.sent: dict[str, Message] = {}
        self.most = 0

    def push_messages(self, messages: Iterable[Message]) -> list[Any]:
        ids: list[Any] = []
        for message in messages:
            name = f"m{len(self.sent)}"
            message.metadata.__dict__["_message_id"] = name
            self.sent[name] = message
            ids.append(None if message.metadata.dst_node_id == 9 else name)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        wanted = list(message_ids)
        self.most = max(self.most, len(wanted))
        stale = Message(RecordDict(), reply_to=self.sent["m0"])
        stale.metadata.__dict__["_reply_to_message_id"] = "of another round"
        return [*map(self.reply, wanted), stale]

    def reply(self, name: str) -> Message:
        if self.sent[name].metadata.dst_node_id != 2:
            return Message(RecordDict(), reply_to=self.sent[name])
        reply = Message(Error(11, "gone"), reply_to=self.sent[name])
        reply.metadata.__dict__["_src_node_id"] = 1  # Flower's own node, as it does
        return reply


class Busy(Link):
    """A SuperLink whose database is locked now and then, and which cannot read what node 7 has sent."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = iter([True, False, True, True] + [False] * 1000)
        self.unreadable = True

    def push_messages(self, messages: Iterable[Message]) -> list[Any]:
        if next(self.failures):
            raise OSError("database is locked")
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        wanted = list(message_ids)
        if any(self.sent[name].metadata.dst_node_id == 7 for name in wanted):
            self.unreadable = not self.unreadable
            if not self.unreadable:
                raise ValueError("\udcff is no message")
        return super().pull_messages(wanted)


def test_flower_may_fail_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    link: Any = Busy()
    replies = StreamingGrid(link).send_and_receive([Message(RecordDict(), n, "train") for n in (5, 7, 8)], timeout=30)
    assert sorted(reply.metadata.src_node_id for reply in replies) == [5, 7, 8]


class Forgetful(Link):
    """A SuperLink that deletes a reply when it hands it out, as Flower's does; that of node 7 cannot be read."""

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        wanted = [self.sent.pop(name) for name in list(message_ids) if name in self.sent]
        if any(message.metadata.dst_node_id == 7 for message in wanted):
            raise ValueError("\udcff is no message")
        return [Message(RecordDict(), reply_to=message) for message in wanted]


def test_bytes_that_cannot_be_read_cost_no_other_sites_reply() -> None:
    link: Any = Forgetful()
    messages = [Message(RecordDict(), node, "train") for node in (5, 7, 8, 20)]
    replies = StreamingGrid(link).send_and_receive(messages, timeout=0.3)
    assert [reply.metadata.src_node_id for reply in replies] == [5, 8, 20]


def test_what_never_comes_is_given_up_and_a_dead_link_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_PATIENCE", 0.2)
    link: Any = Busy()
    monkeypatch.setattr(link, "pull_messages", lambda _: 1 / 0)
    assert list(StreamingGrid(link).send_and_receive([Message(RecordDict(), 5, "train")], timeout=30)) == []
    monkeypatch.setattr(link, "push_messages", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(StreamingGrid(link).send_and_receive([Message(RecordDict(), 5, "train")], timeout=30))


def test_replies_come_a_few_at_a_time_and_name_the_node_that_was_asked() -> None:
    link: Any = Link()
    nodes = [5, 2, 9, *range(20, 40)]
    messages = [Message(RecordDict(), node, "train") for node in nodes]
    replies = list(StreamingGrid(link).send_and_receive(messages, timeout=30))
    assert [reply.metadata.src_node_id for reply in replies] == [n for n in nodes if n != 9]
    assert [reply.has_error() for reply in replies].index(True) == 1
    assert link.most == 1  # however many are ready, as many wait in memory


class Slow(Link):
    """A SuperLink whose clock is made up: node n answers n seconds after the beginning."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now, self.pauses = 0.0, []  # type: float, list[float]
        monkeypatch.setattr(streaming.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(streaming.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self.reply(name) for name in message_ids if self.sent[name].metadata.dst_node_id <= self.now]


def test_it_asks_often_at_first_and_seldom_where_sites_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_POLL_SECONDS", (0.05, 0.5))
    link: Any = Slow(monkeypatch)
    late = []
    for reply in StreamingGrid(link).send_and_receive([Message(RecordDict(), n, "train") for n in (1, 4, 100)]):
        late.append(link.now - reply.metadata.src_node_id)
        if len(late) == 1:
            first = len(link.pauses)
    assert min(link.pauses) == 0.05 == link.pauses[0] == link.pauses[first]  # from the last reply on
    assert max(link.pauses) == 0.5 == link.pauses[-1]
    assert late[0] <= 0.1 + 1e-9 and late[1] <= 0.3 + 1e-9 and late[2] <= 0.5 + 1e-9  # a tenth of the silence
    assert len(link.pauses) < 300
