"""The sites as the coordinator sees them: who takes part."""

from collections.abc import Iterator
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from common import wire
from common.config import Experiment
from common.hello import read_hello
from common.names import rename_hint, skeleton
from server_app.run.journal import Journal, log


@dataclass
class SiteFacts:
    """What the coordinator knows of a site: its node, its declared image counts, whether it holds the frame.

    `aggregation_weight` is the smaller count where a site declares another than at first; None: `num_train`.
    """

    node_id: int
    num_train: int
    num_test: int
    has_frame: bool = False
    aggregation_weight: int | None = None

    @property
    def images(self) -> int:
        """Training images that weigh in the aggregation; a site with none trains no model."""
        return self.num_train if self.aggregation_weight is None else self.aggregation_weight


def discover_sites(
    grid: Grid, experiment: Experiment, timeout: float, journal: Journal | None = None
) -> dict[str, SiteFacts]:
    """Find the sites behind all nodes.

    A node that fails or runs other code is rejected; log and journal say why.

    Returns:
        The sites by name.

    Raises:
        wire.WireError: no node can take part.
    """
    sites: dict[str, SiteFacts] = {}
    reasons = admit(grid, experiment, list(grid.get_node_ids()), timeout, sites, journal)
    if not sites:
        raise wire.WireError(f"no site can take part: {[*reasons.values(), 'none is connected'][0]}")
    return sites


def admit(
    grid: Grid,
    experiment: Experiment,
    nodes: list[int],
    timeout: float,
    sites: dict[str, SiteFacts],
    journal: Journal | None = None,
) -> dict[int, str]:
    """Identify nodes, add valid ones to `sites`, and return the rejected ones with the reason.

    If several nodes use one name, all are rejected, also one that is already in `sites`: none can be trusted.
    The same holds for names that look alike, except that a name already in `sites` stays.
    """
    reasons: dict[int, str] = {}
    alike: dict[str, list[tuple[str, SiteFacts]]] = {}
    answers = identify_nodes(grid, experiment, nodes, timeout, reasons, journal)
    for name, facts in (*sites.items(), *answers):
        alike.setdefault(skeleton(name), []).append((name, facts))
    for namesakes in alike.values():
        names = sorted({name for name, _ in namesakes})
        known = names[0] if len(names) == 1 else next((name for name in names if name in sites), "")
        right = [(name, facts) for name, facts in namesakes if name == known]
        if len(right) == 1:
            sites[known] = right[0][1]
        else:
            sites.pop(known, None)
            right = []
        for name, facts in namesakes:
            if (name, facts) in right:
                continue
            reasons[facts.node_id] = (
                f"two sites call themselves '{name}': give each its own name"
                if len(names) == 1
                else f"'{name}' looks like '{next(other for other in names if other != name)}', another site: "
                f"{rename_hint(*names[:2])}"
            )
            reject_node(facts.node_id, reasons[facts.node_id], journal)
    return reasons


def identify_nodes(
    grid: Grid,
    experiment: Experiment,
    nodes: list[int],
    timeout: float,
    reasons: dict[int, str] | None = None,
    journal: Journal | None = None,
) -> Iterator[tuple[str, SiteFacts]]:
    """Identify nodes, and yield the valid ones; the others are logged.

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
            hello = read_hello(message)
        except wire.WireError as error:
            silent[node_id] = str(error)
            continue
        silent.pop(node_id, None)
        yield hello.site, SiteFacts(node_id, hello.num_train, hello.num_test)
    for node_id, reason in sorted(silent.items()):
        reject_node(node_id, reason, journal)
    if reasons is not None:
        reasons.update(silent)


def reject_node(node_id: int, reason: str, journal: Journal | None = None) -> None:
    """Log and record that a node is rejected, and why."""
    log.warning("node %d left out: %s", node_id, reason)
    if journal:
        journal.event("left-out", node=node_id, reason=reason)
