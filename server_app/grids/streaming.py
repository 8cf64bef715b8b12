"""Flower's grid with replies yielded as they arrive, so that the coordinator holds one at a time.

An error from Flower does not end a run at once: the SuperLink may be busy ("database is
locked"), and bytes of a site that cannot be read as a message concern that site alone.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from common.errors import one_line
from server_app.run.journal import log

T = TypeVar("T")
_POLL_SECONDS = (0.05, 0.5)  # between two questions whether something is there: at first, and in the long run
_POLL_SHARE = 0.1  # of the time since the last reply
_PATIENCE = 120.0  # seconds of nothing but failures after which Flower is given up


class StreamingGrid(Grid):
    """Sends messages one by one and yields each reply when it is there.

    Args:
        grid: the grid of a Flower run.

    Attributes:
        on_wait: called now and then while replies are waited for.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.on_wait: Callable[[], object] = lambda: None
        self._failing: float | None = None  # since when fetching has done nothing but fail

    def set_run(self, run: Any) -> None:
        """Pass on."""
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        """Pass on."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Pass on."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Pass on."""
        return self._patiently(lambda: list(self._grid.get_node_ids()))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Pass on."""
        once = list(messages)
        return self._patiently(lambda: list(self._grid.push_messages(once)))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pass on."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Send the messages and yield replies as they come, until all are there or the time is up; none for none."""
        waiting: dict[str, int] = {}  # the message that is not answered yet: its node
        for message in messages:
            node_id = message.metadata.dst_node_id
            waiting |= {sent: node_id for sent in self.push_messages([message]) if sent}
        end = None if timeout is None else time.monotonic() + timeout
        self._failing, last_arrival = None, time.monotonic()
        while waiting and (self._failing is None or time.monotonic() < self._failing + _PATIENCE):
            arrived = False
            for reply in self._pull(list(waiting)):
                arrived = True
                answered = reply.metadata.reply_to_message_id
                if answered in waiting:
                    # Flower's own replies, of a node that died or a message that expired, name nobody
                    reply.metadata.__dict__["_src_node_id"] = waiting.pop(answered)
                    yield reply
            if end is not None and time.monotonic() > end:
                return
            if arrived:
                last_arrival = time.monotonic()
            elif waiting:
                self.on_wait()
                time.sleep(_pause(time.monotonic() - last_arrival))

    def _pull(self, message_ids: list[str]) -> Iterator[Message]:
        """Yield arrived replies one by one: Flower fetches all requested messages at once and drops them afterwards.

        Were several fetched together, one that cannot be read would take the others with it.
        """
        for message_id in message_ids:
            try:
                replies = list(self._grid.pull_messages([message_id]))
            except Exception as error:  # asked for again; the site is named as silent if that does not help
                _log_or_raise(error)
                self._failing = self._failing or time.monotonic()
            else:
                self._failing = None
                yield from replies

    @staticmethod
    def _patiently(call: Callable[[], T]) -> T:
        """Call, again after a failure, until it works or patience ends."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                return call()
            except Exception as error:
                _log_or_raise(error)
                if time.monotonic() > end:
                    raise
                time.sleep(_POLL_SECONDS[1])


def _pause(silence: float) -> float:
    """Return the seconds until the next question after so many of silence: fast sites hardly wait for it to end.

    Each question is a request for each site, so a SuperLink with many slow sites is not asked twenty times a second.
    """
    shortest, longest = _POLL_SECONDS
    return min(longest, max(shortest, _POLL_SHARE * silence))


def _log_or_raise(error: Exception) -> None:
    """Say what Flower raised; raise it where trying again cannot help, as when the run was stopped."""
    if 400 <= getattr(getattr(error, "response", None), "status_code", 500) < 500:
        raise error
    log.warning("Flower: %s; trying again", one_line(f"{type(error).__name__}: {error}", 200))
