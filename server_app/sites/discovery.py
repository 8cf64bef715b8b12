"""The sites as the coordinator knows them: who takes part, and which of their replies can be used."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from common import wire
from common.config import Experiment
from common.names import skeleton, way_out
from server_app.run.journal import Journal, log

LARGEST = 1e9  # no loss, weight, moment or counter of a training that works comes near; sums and squares stay in range
_MOST_LOSSES = 8  # no method has half as many
_MOST = 64  # numbers in a reply; the longest honest one has about thirty


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


class BadReplyError(wire.WireError):
    """A reply that must not be used; the text says why."""


class DivergedError(BadReplyError):
    """One whose numbers are not finite or out of all proportion: training diverged there, or someone lies."""


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


def figure_names(stages: Collection[str], *, multilabel: bool) -> frozenset[str]:
    """Return the names of the figures that sites are asked for at some stages."""
    figures = wire.MULTILABEL_FIGURES if multilabel else ("hits",)
    return frozenset(f"{figure}-{stage}" for figure in figures for stage in stages)


def check_reply(reply: wire.Reply, facts: SiteFacts, figures: Collection[str], *, trains: bool) -> None:
    """Check the figures of a reply to train (`trains`) or personalise, before it touches the model or a mean.

    Args:
        reply: as it came.
        facts: what the site declared.
        figures: of `figure_names`, those that were asked for.
        trains: whether a model must come with it.

    Raises:
        BadReplyError: a figure that nobody asked for, that is not finite or huge, a count that differs from what the
            site declared, more hits than test images, or a model where there was nothing to train on (or none where
            there was).
    """
    if len(reply.metrics) > _MOST:
        raise BadReplyError(f"{len(reply.metrics)} figures, where at most {_MOST} are asked for")
    if (losses := sum(name.startswith("loss-") for name in reply.metrics)) > _MOST_LOSSES:
        raise BadReplyError(f"{losses} losses, where no method has more than {_MOST_LOSSES}")
    for name, value in reply.metrics.items():
        if name not in figures and not wire.COUNTS_AND_LOSSES.fullmatch(name):
            raise BadReplyError(f"{name!r} is no figure that a site is asked for here")
        if not math.isfinite(value):
            raise DivergedError(f"{name} = {value}: not finite")
        if name.startswith("loss-") and abs(value) > LARGEST:
            raise DivergedError(f"{name} = {value:g}: beyond {LARGEST:g}; training diverged there")
    _expect(reply.metrics, "num-examples", facts.num_train)
    if (started_from := reply.metrics.get(wire.STARTED_FROM, 0)) not in range(max(1, int(reply.round))):
        raise BadReplyError(f"{wire.STARTED_FROM} = {started_from:g}: no round before round {reply.round:g}")
    found = {name: reply.metrics[name] for name in figures if name in reply.metrics}
    if not trains or found:
        _expect(reply.metrics, "num-test", facts.num_test)
    for name, value in found.items():
        _check_figure(name, value, facts)
    if trains and bool(reply.model) != bool(facts.num_train):
        raise BadReplyError("a model without training images" if reply.model else "no model came back")


def _check_figure(name: str, value: float, facts: SiteFacts) -> None:
    if name.startswith("hits-"):
        if not (value.is_integer() and 0 <= value <= facts.num_test):
            raise BadReplyError(f"{name} = {value:g}: the site has {facts.num_test} test images")
    elif not 0 <= value <= (LARGEST if name.startswith("undefined_auc-") else 1):
        raise BadReplyError(f"{name} = {value:g}: not a share of 1")


def _expect(metrics: Mapping[str, float], name: str, declared: int) -> None:
    if metrics.get(name) != declared:
        raise BadReplyError(f"{name} = {metrics.get(name)}: the site declared {declared} when the run began")
