"""Lines for people on standard output."""

import logging
import sys
from typing import TextIO

from common.letters import show_every_letter


class _Output(logging.StreamHandler[TextIO]):
    """Writes to what standard output is at that moment, not to what it was when logging began."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        super().emit(record)


def speak(log: logging.Logger, line: str = "%(message)s") -> None:
    """Send a logger's lines from INFO up to standard output, once, and nowhere else; `line` is logging's format."""
    show_every_letter()
    if not log.handlers:
        handler = _Output(sys.stdout)
        handler.setFormatter(logging.Formatter(line))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
