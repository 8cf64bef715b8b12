"""The sites as the coordinator knows them: who takes part, and which of their replies can be used."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from common import wire
from common.config import Experiment
from server_app.journal import log

LARGEST = 1e9  # no loss, weight, moment or counter of a training that works comes near; sums and squares stay in range
_KNOWN = re.compile(
    rf"num-examples|num-test|loss-[a-z_]{{1,32}}|({'|'.join(('hits', *wire.MULTILABEL_FIGURES))})-"
    rf"({'|'.join(('arrival', *wire.STAGES))})"
)


@dataclass
class SiteFacts:
    """What the coordinator knows of a site: its node, its declared image counts, whether it holds the frame."""

    node_id: int
    num_train: int
    num_test: int
    has_frame: bool = False


class BadReplyError(wire.WireError):
    """A reply that must not be used; the text says why."""


def greet(grid: Grid, experiment: Experiment, timeout: float) -> dict[str, SiteFacts]:
    """Ask every node who it is.

    A node that fails or runs other code is left out with its reason.

    Returns:
        The sites by name.

    Raises:
        wire.WireError: no node can take part, or two have the same name.
    """
    nodes = list(grid.get_node_ids())
    sites: dict[str, SiteFacts] = {}
    reasons: list[str] = []
    for name, facts in ask_names(grid, experiment, nodes, timeout, reasons):
        if name in sites:
            raise wire.WireError(f"two sites call themselves '{name}': give each its own name")
        sites[name] = facts
    if not sites:
        raise wire.WireError(f"no site can take part: {reasons[-1] if reasons else 'none is connected'}")
    return sites


def ask_names(
    grid: Grid, experiment: Experiment, nodes: list[int], timeout: float, reasons: list[str] | None = None
) -> Iterator[tuple[str, SiteFacts]]:
    """Ask nodes who they are, and yield those that can take part; the others are logged.

    Args:
        grid: Flower's.
        experiment: the run.
        nodes: their ids.
        timeout: seconds.
        reasons: gets why nodes cannot take part.
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
        log.warning("node %d left out: %s", node_id, reason)
    if reasons is not None:
        reasons.extend(silent.values())


def check_reply(reply: wire.Reply, facts: SiteFacts, *, trains: bool) -> None:
    """Check the figures of a reply to train (`trains`) or personalise, before it touches the model or a mean.

    Raises:
        BadReplyError: a figure that is unknown, not finite or huge, a count that differs from what the site declared,
            more hits than test images, or a model where there was nothing to train on (or none where there was).
    """
    for name, value in reply.metrics.items():
        if not _KNOWN.fullmatch(name):
            raise BadReplyError(f"{name!r} is no figure that a site is asked for")
        if not math.isfinite(value):
            raise BadReplyError(f"{name} = {value}: not finite")
        if name.startswith("loss-") and abs(value) > LARGEST:
            raise BadReplyError(f"{name} = {value:g}: beyond {LARGEST:g}; training diverged there")
    _expect(reply.metrics, "num-examples", facts.num_train)
    figures = tuple(f"-{stage}" for stage in ("arrival", *wire.STAGES))
    if not trains or any(name.endswith(figures) for name in reply.metrics):
        _expect(reply.metrics, "num-test", facts.num_test)
    for stage in ("arrival", *wire.STAGES):
        _check_figures(reply.metrics, stage, facts)
    if trains and bool(reply.model) != bool(facts.num_train):
        raise BadReplyError("a model without training images" if reply.model else "no model came back")


def _check_figures(metrics: Mapping[str, float], stage: str, facts: SiteFacts) -> None:
    hits = metrics.get(f"hits-{stage}", 0.0)
    if not (hits.is_integer() and 0 <= hits <= facts.num_test):
        raise BadReplyError(f"hits-{stage} = {hits:g}: the site has {facts.num_test} test images")
    for name in wire.MULTILABEL_FIGURES:
        value = metrics.get(f"{name}-{stage}", 0.0)
        if not 0 <= value <= (LARGEST if name == "undefined_auc" else 1):
            raise BadReplyError(f"{name}-{stage} = {value:g}: not a share of 1")


def _expect(metrics: Mapping[str, float], name: str, declared: int) -> None:
    if metrics.get(name) != declared:
        raise BadReplyError(f"{name} = {metrics.get(name)}: the site declared {declared} when the run began")
