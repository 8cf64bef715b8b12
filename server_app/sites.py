"""The sites as the coordinator knows them: who takes part, and which of their replies can be used."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from common import wire
from common.config import Experiment
from server_app.journal import log


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
    messages = [Message(wire.request(experiment, run=""), node_id, wire.HELLO, ttl=timeout) for node_id in nodes]
    sites: dict[str, SiteFacts] = {}
    reason = "no answer" if nodes else "none is connected"
    for message in grid.send_and_receive(messages, timeout=timeout):
        node_id = message.metadata.src_node_id
        try:
            hello = wire.read_hello(message)
        except wire.WireError as error:
            reason = str(error)
            log.warning("node %d left out: %s", node_id, reason)
            continue
        if hello.site in sites:
            raise wire.WireError(f"two sites call themselves '{hello.site}': give each its own name")
        sites[hello.site] = SiteFacts(node_id, hello.num_train, hello.num_test)
    if not sites:
        raise wire.WireError(f"no site can take part: {reason}")
    return sites


def check_reply(reply: wire.Reply, facts: SiteFacts, *, trains: bool) -> None:
    """Check the figures of a reply to train (`trains`) or personalise, before it touches the model or a mean.

    Raises:
        BadReplyError: a figure that is not finite, a count that differs from what the site declared, more
            hits than test images, or a model where there was nothing to train on (or none where there was).
    """
    for name, value in reply.metrics.items():
        if not math.isfinite(value):
            raise BadReplyError(f"{name} = {value}: not finite")
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
        if value < 0 or (value > 1 and name != "undefined_auc"):
            raise BadReplyError(f"{name}-{stage} = {value:g}: not a share of 1")


def _expect(metrics: Mapping[str, float], name: str, declared: int) -> None:
    if metrics.get(name) != declared:
        raise BadReplyError(f"{name} = {metrics.get(name)}: the site declared {declared} when the run began")
