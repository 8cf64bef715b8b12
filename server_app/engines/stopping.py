"""Ctrl-C, a batch system's SIGTERM and a closed terminal: how they end a command, in order and with a last line.

What is ignored stays so: SIGHUP under nohup, Ctrl-C of what a script started in the background.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP: the terminal closed"}
_REPEAT_SECONDS = 5.0  # seconds in which a second Ctrl-C is ignored


class Stopped(BaseException):
    """A signal asks the command to end; the notes that are added say how to go on.

    Args:
        number: of the signal.

    Attributes:
        exit_code: as a shell has it for a process that the signal ends.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped ({_NAMES[signal.Signals(number)]})")
        self.exit_code = 128 + number


def last_lines(error: BaseException) -> str:
    """Return what an error says and, line by line, what was added to it: the last line is how to go on."""
    return "".join(f"{line}\n" for line in (str(error), *getattr(error, "__notes__", ())))


def exit_now(stop: Stopped) -> NoReturn:
    """Print the last lines and end this process, even if threads are still running."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a terminal that is gone
            if stream is sys.stderr:
                stream.write(last_lines(stop))
            stream.flush()
    os._exit(stop.exit_code)


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Have signals raise `Stopped`: once, so that an impatient second one does not end what cleans up after the first.

    One that comes later does so again: the first may have been lost in code that lets nothing be raised.
    """
    raised = -_REPEAT_SECONDS

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal raised
        if time.monotonic() >= raised + _REPEAT_SECONDS:
            raised = time.monotonic()
            raise Stopped(number)

    with _handled(stop):
        yield


@contextmanager
def collect_signals() -> Iterator[list[int]]:
    """Collect signals, to be acted on between two steps: raised amid the start of a child, they would leave it."""
    received: list[int] = []
    with _handled(lambda number, _: received.append(number)):
        yield received


@contextmanager
def ignore_signals() -> Iterator[None]:
    """Drop the signals that arrive meanwhile: for what cleans up."""
    with _handled(signal.SIG_IGN):
        yield


@contextmanager
def _handled(handler: "signal._HANDLER") -> Iterator[None]:
    """Handle the signals that are not ignored; only the main thread may, and elsewhere none arrives."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    changed = [number for number, old in before.items() if old != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        changed = []
    for number in changed:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])
