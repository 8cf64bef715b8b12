"""Lines for people on standard output."""

import logging
import sys


def speak(log: logging.Logger, line: str = "%(message)s") -> None:
    """Send a logger's lines from INFO up to standard output, once, and nowhere else; `line` is logging's format."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter(line))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
