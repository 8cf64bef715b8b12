"""The in-process engine: a Flower `Grid` that calls the ClientApp in this process, one message at a time.

Same strategy, same client functions, same messages as `flwr run`; no processes, no sockets. Replies
are yielded as they come, so the coordinator holds one at a time, or two where sites work ahead.
"""

import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from typing import Any
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

_RUN_ID = 1
_LOOK_SECONDS = 1.0  # between two looks at how far a round is
_CLIENT_APP_RAISED = 3  # Flower's own code for an exception in a ClientApp


class LocalGrid(Grid):
    """A grid of simulated sites in this process.

    Args:
        client_app: the app that answers; the caller loads it, so that this package need not import it.
        num_sites: number of nodes; node i + 1 has partition-id i.
        per_site: further entries of each node's configuration.
        ahead: whether the next site works while the coordinator takes a reply, in one thread beside it: it pays where
            sites train on a GPU, or leave a processor free.
        node_config: further entries of every node's configuration, e.g. a state-dir.

    Attributes:
        on_wait: called now and then while a site that works ahead is waited for.
    """

    def __init__(
        self,
        client_app: ClientApp,
        num_sites: int,
        per_site: Sequence[Mapping[str, str]] = (),
        ahead: bool = False,
        **node_config: str | int | float | bool,
    ) -> None:
        self._client_app = client_app
        self._contexts = {
            index + 1: Context(
                run_id=_RUN_ID,
                node_id=index + 1,
                node_config={
                    **{"partition-id": index, "num-partitions": num_sites},
                    **(per_site[index] if per_site else {}),
                    **node_config,
                },
                state=RecordDict(),
                run_config={},
            )
            for index in range(num_sites)
        }
        self._replies: dict[str, Message] = {}
        self.on_wait: Callable[[], object] = lambda: None
        # one thread for good: what PyTorch keeps for a thread (handles, chosen algorithms) is made once
        self._worker = ThreadPoolExecutor(1, "site") if ahead else None
        _identify_process()

    def set_run(self, run: Any) -> None:
        """Do nothing: there is one run."""

    @property
    def run(self) -> Any:
        """Refuse: a local grid has no Flower run."""
        raise NotImplementedError("a LocalGrid belongs to no Flower run")

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message to a node (Flower's older way of making one)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answer each message at once and keep the replies for `pull_messages`."""
        ids = []
        for message in messages:
            reply = self._answer(message)
            self._replies[message.metadata.message_id] = reply
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the kept replies to these messages."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Yield the reply to each message in order, but for those that took longer than the timeout.

        Sites work one after the other, so each has its own deadline from when it is asked.
        """
        with closing(self._answers(messages, timeout)) as answers:
            for reply in answers:
                if reply is not None:
                    yield reply

    def _answers(self, messages: Iterable[Message], timeout: float | None) -> Generator[Message | None, None, None]:
        if self._worker is None:
            for message in messages:
                yield self._in_time(message, timeout)
            return
        under_way: list[Future[Message | None]] = []
        try:
            for message in messages:
                under_way.append(self._worker.submit(self._in_time, message, timeout))
                if len(under_way) > 1:
                    yield self._first(under_way)
            while under_way:
                yield self._first(under_way)
        finally:
            for answer in under_way:
                answer.cancel()
            wait(under_way)  # nobody else may use the process's model meanwhile

    def _first(self, under_way: list[Future[Message | None]]) -> Message | None:
        """Wait for the first answer and take it off the list; one whose wait is interrupted stays there."""
        while True:
            try:
                reply = under_way[0].result(_LOOK_SECONDS)
            except TimeoutError:
                self.on_wait()
            else:
                under_way.pop(0)
                return reply

    def _in_time(self, message: Message, timeout: float | None) -> Message | None:
        start = time.monotonic()
        reply = self._answer(message)
        return reply if timeout is None or time.monotonic() - start <= timeout else None

    def _answer(self, message: Message) -> Message:
        message.metadata.__dict__["_message_id"] = str(uuid4())
        try:
            return self._client_app(message, self._contexts[message.metadata.dst_node_id])
        except Exception:  # as Flower does: the site failed, the run goes on
            return Message(Error(_CLIENT_APP_RAISED, traceback.format_exc()), reply_to=message)


def _identify_process() -> None:
    """Give this process the identity that Flower stamps on messages, unless Flower has given it one."""
    from flwr.supercore.task_identity import TaskIdentity

    try:
        _ = TaskIdentity.run_id
    except RuntimeError:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, _RUN_ID, 1
