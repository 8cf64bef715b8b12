"""Waiting for real sites, with a countdown that a person can see."""

import time
from dataclasses import dataclass

from flwr.serverapp import Grid

from common import wire
from common.config import Experiment
from server_app.run.journal import log
from server_app.sites.discovery import SiteFacts, admit

_POLL_SECONDS = 2.0
_LOG_SECONDS = 30.0
_RETRY_SECONDS = 60.0  # then a rejected node is asked again: it may have been fixed


@dataclass
class Roster:
    """The sites that a run begins with.

    Attributes:
        sites: by name.
        rejected: node → why it cannot take part.
    """

    sites: dict[str, SiteFacts]
    rejected: dict[int, str]


def wait_for_sites(grid: Grid, experiment: Experiment) -> Roster:
    """Wait until `sites` valid sites are connected: same code, classes and policy as the experiment.

    A site that hangs or is slow to load its images delays the others by at most a minute at first; it is asked
    again, and waited for twice as long each time.

    Raises:
        wire.WireError: there are fewer after `round-timeout` seconds.
    """
    wanted, end = experiment.sites.sites, time.monotonic() + experiment.rounds.round_timeout
    roster, asked, patience = Roster({}, {}), dict[int, float](), _RETRY_SECONDS
    last_logged = -_LOG_SECONDS
    while True:
        connected, now = set(grid.get_node_ids()), time.monotonic()
        roster.sites = {name: facts for name, facts in roster.sites.items() if facts.node_id in connected}
        roster.rejected = {node: why for node, why in roster.rejected.items() if node in connected}
        if len(roster.sites) >= wanted:
            return roster
        asked = {node: when for node, when in asked.items() if node in connected}
        unknown_nodes = connected - {facts.node_id for facts in roster.sites.values()}
        due = sorted(node for node in unknown_nodes if now - asked.get(node, -_RETRY_SECONDS) >= _RETRY_SECONDS)
        if due and len(connected) >= wanted and end > now:
            patience *= 1 + any(node in asked for node in due)
            reasons = admit(grid, experiment, due, min(patience, end - now), roster.sites)
            roster.rejected = {n: why for n, why in roster.rejected.items() if n not in due} | reasons
            asked |= dict.fromkeys([*due, *reasons], time.monotonic())
            continue
        found = (
            f"{len(roster.sites)} of {wanted} sites can take part"
            if asked
            else f"{len(connected)} of {wanted} sites connected"
        )
        if (left := end - time.monotonic()) <= 0:
            why = "".join(f"; node {node} cannot: {reason}" for node, reason in roster.rejected.items())
            raise wire.WireError(
                f"{found} within {experiment.rounds.round_timeout:g} s: start the others, lower sites, or raise "
                f"round-timeout{why}"
            )
        if time.monotonic() - last_logged >= _LOG_SECONDS:
            last_logged = time.monotonic()
            log.info("%s; waiting %d s more", found, left)
        time.sleep(min(_POLL_SECONDS, left))
