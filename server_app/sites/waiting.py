"""Waiting for real sites, with a countdown that a person can see."""

import time
from dataclasses import dataclass

from flwr.serverapp import Grid

from common import wire
from common.config import Experiment
from server_app.run.journal import log
from server_app.sites.discovery import SiteFacts, meet

_POLL_SECONDS = 2.0
_TELL_SECONDS = 30.0
_AGAIN_SECONDS = 60.0  # after so long a site that could not take part may have been mended


@dataclass
class Company:
    """The sites that a run begins with.

    Attributes:
        sites: by name.
        left_out: node → why it cannot take part.
    """

    sites: dict[str, SiteFacts]
    left_out: dict[int, str]


def gather(grid: Grid, experiment: Experiment) -> Company:
    """Wait until `sites` sites can take part: connected, and of the same code, classes and terms as the experiment.

    One that hangs, or prepares its images for long, holds up no other for more than a minute at first; it is asked
    again, and waited for twice as long each time.

    Raises:
        wire.WireError: there are fewer after `round-timeout` seconds.
    """
    wanted, end = experiment.sites.sites, time.monotonic() + experiment.rounds.round_timeout
    company, asked, patience = Company({}, {}), dict[int, float](), _AGAIN_SECONDS
    told = -_TELL_SECONDS
    while True:
        connected, now = set(grid.get_node_ids()), time.monotonic()
        company.sites = {name: facts for name, facts in company.sites.items() if facts.node_id in connected}
        company.left_out = {node: why for node, why in company.left_out.items() if node in connected}
        if len(company.sites) >= wanted:
            return company
        asked = {node: when for node, when in asked.items() if node in connected}
        strangers = connected - {facts.node_id for facts in company.sites.values()}
        due = sorted(node for node in strangers if now - asked.get(node, -_AGAIN_SECONDS) >= _AGAIN_SECONDS)
        if due and len(connected) >= wanted and end > now:
            patience *= 1 + any(node in asked for node in due)
            reasons = meet(grid, experiment, due, min(patience, end - now), company.sites)
            company.left_out = {n: why for n, why in company.left_out.items() if n not in due} | reasons
            asked |= dict.fromkeys([*due, *reasons], time.monotonic())
            continue
        found = (
            f"{len(company.sites)} of {wanted} sites can take part"
            if asked
            else f"{len(connected)} of {wanted} sites connected"
        )
        if (left := end - time.monotonic()) <= 0:
            why = "".join(f"; node {node} cannot: {reason}" for node, reason in company.left_out.items())
            raise wire.WireError(
                f"{found} within {experiment.rounds.round_timeout:g} s: start the others, lower sites, or raise "
                f"round-timeout{why}"
            )
        if time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            log.info("%s; waiting %d s more", found, left)
        time.sleep(min(_POLL_SECONDS, left))
