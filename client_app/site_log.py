"""What a real site's engineer reads: each round, what came, what was done and what goes out, in bytes."""

import logging
import sys
from collections.abc import Mapping

from flwr.app import Message

from client_app.site import Site
from common import wire

log = logging.getLogger("fednc.site")


def tell(
    site: Site, message: Message, reply: Message, title: str, done: Mapping[str, float | int], seconds: float
) -> None:
    """Log one line of a real site; simulated ones stay silent.

    Args:
        site: whose line.
        message: what came.
        reply: what goes out.
        title: e.g. 'round 3'.
        done: the reply's metrics.
        seconds: how long it took.
    """
    if site.config is None:
        return
    if not log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
    figures = ", ".join(f"{name} {value:.4g}" for name, value in done.items())
    log.info(
        "%s: got %d bytes of arrays; %d training and %d test images, %.1f s; sends %d bytes of arrays and %s",
        title, wire.num_bytes(message), len(site.train_rows), len(site.test_rows), seconds, wire.num_bytes(reply),
        figures,
    )  # fmt: skip
