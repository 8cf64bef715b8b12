"""The sites as the coordinator knows them: who takes part."""

from collections.abc import Iterator
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from common import wire
from common.config import Experiment
from common.names import skeleton, way_out
from server_app.run.journal import Journal, log


@dataclass
class SiteFacts:
    """What the coordinator knows of a site: its node, its declared image counts, whether it holds the frame.

    It counts for `counts_for` training images, None: for all; fewer where it declared fewer when it first took part.
    """

    node_id: int
    num_train: int
    num_test: int
    has_frame: bool = False
    counts_for: int | None = None

    @property
    def images(self) -> int:
        """Training images that it counts for; with none it makes no model."""
        return self.num_train if self.counts_for is None else self.counts_for


def greet(grid: Grid, experiment: Experiment, timeout: float, journal: Journal | None = None) -> dict[str, SiteFacts]:
    """Ask every node who it is.

    A node that fails or runs other code is left out with its reason, in the log and in the journal.

    Returns:
        The sites by name.

    Raises:
        wire.WireError: no node can take part.
    """
    sites: dict[str, SiteFacts] = {}
    reasons = meet(grid, experiment, list(grid.get_node_ids()), timeout, sites, journal)
    if not sites:
        raise wire.WireError(f"no site can take part: {[*reasons.values(), 'none is connected'][0]}")
    return sites


def meet(
    grid: Grid,
    experiment: Experiment,
    nodes: list[int],
    timeout: float,
    sites: dict[str, SiteFacts],
    journal: Journal | None = None,
) -> dict[int, str]:
    """Ask nodes who they are, add those that can take part to `sites`, and return the others with why they cannot.

    Of several nodes with one name none takes part, the one in `sites` neither: nobody knows which is the right one.
    Nor does any of several whose names look alike; one in `sites` stays, for its name was known first.
    """
    reasons: dict[int, str] = {}
    alike: dict[str, list[tuple[str, SiteFacts]]] = {}
    answers = ask_names(grid, experiment, nodes, timeout, reasons, journal)
    for name, facts in (*sites.items(), *answers):
        alike.setdefault(skeleton(name), []).append((name, facts))
    for several in alike.values():
        names = sorted({name for name, _ in several})
        known = names[0] if len(names) == 1 else next((name for name in names if name in sites), "")
        right = [(name, facts) for name, facts in several if name == known]
        if len(right) == 1:
            sites[known] = right[0][1]
        else:
            sites.pop(known, None)
            right = []
        for name, facts in several:
            if (name, facts) in right:
                continue
            reasons[facts.node_id] = (
                f"two sites call themselves '{name}': give each its own name"
                if len(names) == 1
                else f"'{name}' looks like '{next(other for other in names if other != name)}', another site: "
                f"{way_out(*names[:2])}"
            )
            leave_out(facts.node_id, reasons[facts.node_id], journal)
    return reasons


def ask_names(
    grid: Grid,
    experiment: Experiment,
    nodes: list[int],
    timeout: float,
    reasons: dict[int, str] | None = None,
    journal: Journal | None = None,
) -> Iterator[tuple[str, SiteFacts]]:
    """Ask nodes who they are, and yield those that can take part; the others are logged.

    Args:
        grid: Flower's.
        experiment: the run.
        nodes: their ids.
        timeout: seconds.
        reasons: gets which nodes cannot take part, and why.
        journal: gets them too.
    """
    messages = [Message(wire.request(experiment, run=""), node_id, wire.HELLO, ttl=timeout) for node_id in nodes]
    silent = dict.fromkeys(nodes, f"no answer within {timeout:g} s")
    for message in grid.send_and_receive(messages, timeout=timeout):
        node_id = message.metadata.src_node_id
        try:
            hello = wire.read_hello(message)
        except wire.WireError as error:
            silent[node_id] = str(error)
            continue
        silent.pop(node_id, None)
        yield hello.site, SiteFacts(node_id, hello.num_train, hello.num_test)
    for node_id, reason in sorted(silent.items()):
        leave_out(node_id, reason, journal)
    if reasons is not None:
        reasons.update(silent)


def leave_out(node_id: int, reason: str, journal: Journal | None = None) -> None:
    """Say that a node takes no part, and why."""
    log.warning("node %d left out: %s", node_id, reason)
    if journal:
        journal.event("left-out", node=node_id, reason=reason)
