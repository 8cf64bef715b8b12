"""Waiting for real sites, with a countdown that a person can see."""

import time

from flwr.serverapp import Grid

from common import wire
from server_app.journal import log

_POLL_SECONDS = 2.0
_TELL_SECONDS = 30.0


def wait_for_sites(grid: Grid, wanted: int, timeout: float) -> int:
    """Wait until so many sites are connected, and return how many are.

    Args:
        grid: Flower's.
        wanted: sites to begin with.
        timeout: seconds.

    Raises:
        wire.WireError: fewer are there when the time is up.
    """
    end = time.monotonic() + timeout
    told = -_TELL_SECONDS
    while (found := len(list(grid.get_node_ids()))) < wanted:
        left = end - time.monotonic()
        if left <= 0:
            raise wire.WireError(
                f"{found} of {wanted} sites connected within {timeout:g} s: start the others, lower sites, or raise "
                "round-timeout"
            )
        if time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            log.info("%d of %d sites connected; waiting %d s more", found, wanted, left)
        time.sleep(min(_POLL_SECONDS, left))
    return found
