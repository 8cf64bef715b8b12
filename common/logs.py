"""Lines for people on standard output."""

import logging
import os
import sys
from contextlib import suppress
from typing import TextIO

from common.transliteration import transliterate_output


class _Output(logging.StreamHandler[TextIO]):
    """Writes to what standard output is at that moment, not to what it was when logging began."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Go on where standard output takes no more lines, see `write_out`."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError) or not _discard_output(error):
            super().handleError(record)


def write_out(text: str) -> None:
    """Write to standard output; where it takes no more (`| head`, a full disk), say so once and go on.

    What runs is not lost with its lines: they are in its folder too.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        if not _discard_output(error):
            raise


def _discard_output(error: OSError) -> bool:
    """Let further output go nowhere; say whether standard output is the process's own, so that this can be."""
    if not _redirect_to_null(sys.stdout):
        return False
    try:
        sys.stderr.write(f"standard output takes no more lines ({error.strerror}): the work goes on without them\n")
        sys.stderr.flush()
    except OSError:
        _redirect_to_null(sys.stderr)
    return True


def reopen_closed_streams() -> None:
    """Give a command that was started with closed streams (`>&-`) some that take everything.

    Without, the first files that it opens would have their numbers, and get what libraries print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115


def _redirect_to_null(stream: TextIO) -> bool:
    """Let a stream's further lines go nowhere; say whether it is one of the process's own."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
        return True
    return False


def configure_logger(log: logging.Logger, line: str = "%(message)s") -> None:
    """Send a logger's lines from INFO up to standard output, once, and nowhere else; `line` is logging's format."""
    transliterate_output()
    if not log.handlers:
        handler = _Output(sys.stdout)
        handler.setFormatter(logging.Formatter(line))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
