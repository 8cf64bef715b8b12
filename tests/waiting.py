"""Waiting for what another process or thread does: for a condition, with a deadline, never for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

_Found = TypeVar("_Found")


def wait_until(condition: Callable[[], _Found], seconds: float, why: str | Callable[[], str]) -> _Found:
    """Return what a condition gives once it is true.

    Args:
        condition: asked again and again; it may itself fail where what is waited for cannot come any more.
        seconds: how long at most; generous, since a busy machine is no failure.
        why: what is waited for, or a function that gives what to show if it does not come.

    Raises:
        AssertionError: it has not become true in time.
    """
    end = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if found := condition():
            return found
        # an answer from before the deadline is not the last word: this process may have stood still
        assert asked < end, f"not within {seconds:g} s: {why if isinstance(why, str) else why()}"
        time.sleep(max(0.02, 2 * (time.monotonic() - asked)))  # asking may cost a process
