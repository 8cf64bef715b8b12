"""A real site's log: for each round what was received, done and sent, in bytes."""

import logging
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flwr.app import Message
from torch import nn

from common import wire
from common.errors import RefusalError, UserError, one_line
from common.logs import configure_logger

if TYPE_CHECKING:
    from client_app.site.site import Site

log = logging.getLogger("fednc.site")


def log_exchange(
    site: "Site",
    model: nn.Module,
    message: Message,
    reply: Message,
    title: str,
    done: Mapping[str, float | int],
    seconds: float,
) -> None:
    """Log one line of a real site; simulated ones stay silent.

    Args:
        site: whose line.
        model: which was trained or evaluated.
        message: what came.
        reply: what goes out.
        title: e.g. 'round 3'.
        done: the reply's metrics.
        seconds: how long it took.
    """
    if site.config is None:
        return
    configure_logger(log, "%(asctime)s %(message)s")
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in done.items())
    device = next(model.parameters()).device.type
    log.info(
        "%s: got %d bytes of arrays; %d training and %d test images on %s, %.1f s; sends %d bytes of arrays%s and %s",
        title, wire.num_bytes(message), len(site.train_rows), len(site.test_rows), device, seconds,
        wire.num_bytes(reply), f" ({', '.join(extras)})" if (extras := wire.extras_of(reply)) else "", metrics,
    )  # fmt: skip


def log_warning(text: str) -> None:
    """Log a warning for a real site's engineer as one line, with any text of the coordinator made safe."""
    configure_logger(log, "%(asctime)s %(message)s")
    log.warning("%s", one_line(text))


def redact_error(error: Exception) -> RefusalError:
    """Log an error at a real site, and return what the coordinator may see of it: only its type.

    The text of an error may name files, and so patients.
    """
    configure_logger(log, "%(asctime)s %(message)s")
    log.error("error: %s%s", one_line(str(error)), "" if isinstance(error, UserError) else _traced(error))
    if isinstance(error, RefusalError):
        return error
    kind = UserError if isinstance(error, UserError) else type(error)  # which of our own kinds is the site's affair
    return RefusalError(f"the site failed ({kind.__name__}); its own log says why")


def _traced(error: Exception) -> str:
    """Return a traceback as lines that cannot pass for the log's own, though what came may have chosen their words."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "".join(f"\n{one_line(f'| {line}')}" for line in lines)
