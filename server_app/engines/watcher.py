"""Finds and ends the processes that carry a mark; run as a program, it does so when the command that owns them dies.

Flower starts a simulation in a session of its own, and Ray its workers below that: a signal to a group leaves them,
and a process whose parent has died has none to be found by. What a process inherits without fail is its environment.
The program imports nothing of FedNC's: it is a few megabytes beside the command, and starts at once.
"""

import os
import sys
import time
from contextlib import suppress

import psutil

MARKS = "FEDNC_MARKS"  # of the environment: one word a command, those of a command that started this one before it
_GRACE = 2.0  # seconds from SIGTERM to SIGKILL
_PASSES = 5  # what was being started while the others ended is found the next time


def marked(mark: str) -> set[psutil.Process]:
    """Return the processes that carry a mark, and all below them; never this one."""
    parents: dict[int, int] = {}
    everyone: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            parents[process.pid], everyone[process.pid] = process.ppid(), process
    found = [pid for pid, process in everyone.items() if pid != os.getpid() and mark in _marks(process)]
    for one in found:  # some programs overwrite what the system tells of their environment
        found += [pid for pid, parent in parents.items() if parent == one and pid not in found and pid != os.getpid()]
    return {everyone[pid] for pid in found if pid in everyone}


def end_marked(mark: str) -> list[int]:
    """End the processes that carry a mark: asked first, then killed, until none is left; return those that are."""
    left: set[psutil.Process] = set()
    for turn in range(_PASSES):
        left = {process for process in left | marked(mark) if lives(process)}
        if not left:
            break
        for process in left:
            with suppress(psutil.Error):
                process.kill() if turn else process.terminate()
        end = time.monotonic() + _GRACE
        while any(lives(process) for process in left) and time.monotonic() < end:
            time.sleep(0.05)
    return sorted(process.pid for process in left if lives(process))


def _marks(process: psutil.Process) -> list[str]:
    try:
        return str(process.environ().get(MARKS, "")).split()
    except (psutil.Error, OSError):  # another user's, or just ended
        return []


def lives(process: psutil.Process) -> bool:
    """Whether it holds files and locks: of one that is ending, the first thread may be gone before the others."""
    try:
        gone = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
        return bool(process.is_running()) and not gone
    except psutil.Error:
        return False


if __name__ == "__main__":
    sys.stdin.read()  # ends when the command closes its side, or dies
    end_marked(sys.argv[1])
