"""A grid of real sites in this process that may be slow, and disconnect and reconnect."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from flwr.app import Message

from server_app.engines.engines import load_client_app
from server_app.grids.local_grid import LocalGrid


class FlakyGrid(LocalGrid):
    """A grid whose sites may be slow, and disconnect and reconnect, as real ones do.

    Args:
        sites: their configuration files, node 1 first.
        there: says at each look whether a node is connected.
        silent: says of a node and a message's type whether its reply comes too late.
    """

    def __init__(
        self, sites: list[Path], there: Callable[[int], bool], silent: Callable[[int, str], bool] = lambda *_: False
    ) -> None:
        super().__init__(load_client_app(), len(sites), [{"site-config": str(path)} for path in sites])
        self.there, self.silent = there, silent
        self.asked: list[tuple[int, str]] = []

    def get_node_ids(self) -> list[int]:
        return [node for node in super().get_node_ids() if self.there(node)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        for message in messages:
            node, kind = message.metadata.dst_node_id, message.metadata.message_type
            self.asked.append((node, kind))
            if self.there(node) and not self.silent(node, kind):
                yield from super().send_and_receive([message])
