"""What a real site's engineer reads: each round, what came, what was done and what goes out, in bytes."""

import logging
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flwr.app import Message
from torch import nn

from common import wire
from common.errors import RefusalError, UserError, plain
from common.logs import speak

if TYPE_CHECKING:
    from client_app.site.site import Site

log = logging.getLogger("fednc.site")


def tell(
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
        model: which was trained, or judged.
        message: what came.
        reply: what goes out.
        title: e.g. 'round 3'.
        done: the reply's metrics.
        seconds: how long it took.
    """
    if site.config is None:
        return
    speak(log, "%(asctime)s %(message)s")
    figures = ", ".join(f"{name} {value:.4g}" for name, value in done.items())
    device = next(model.parameters()).device.type
    log.info(
        "%s: got %d bytes of arrays; %d training and %d test images on %s, %.1f s; sends %d bytes of arrays and %s",
        title, wire.num_bytes(message), len(site.train_rows), len(site.test_rows), device, seconds,
        wire.num_bytes(reply), figures,
    )  # fmt: skip


def remark(text: str) -> None:
    """Log what a real site's engineer should know, as one line, whatever words of the coordinator are in it."""
    speak(log, "%(asctime)s %(message)s")
    log.warning("%s", plain(text))


def told(error: Exception) -> RefusalError:
    """Log what failed at a real site, and return what its coordinator is told: of a mistake here only its kind.

    The text of an error may name files, and so patients.
    """
    speak(log, "%(asctime)s %(message)s")
    log.error("error: %s%s", plain(str(error)), "" if isinstance(error, UserError) else _traced(error))
    if isinstance(error, RefusalError):
        return error
    kind = UserError if isinstance(error, UserError) else type(error)  # which of our own kinds is the site's affair
    return RefusalError(f"the site failed ({kind.__name__}); its own log says why")


def _traced(error: Exception) -> str:
    """Return a traceback as lines that cannot pass for the log's own, though what came may have chosen their words."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "".join(f"\n{plain(f'| {line}')}" for line in lines)
