"""One SuperLink for all tests that need a real one, in all workers; it ends when the tests do, however they end."""

import os
import sys
from pathlib import Path

from filelock import FileLock
from real_processes import PORTS, Deployment

# starts a command, and ends it with all that it has started once a process is there no more
UNTIL = """
import subprocess, sys
import psutil
owner, *command = sys.argv[1:]
owners = [psutil.Process(int(owner))]
subprocess.Popen(command)
psutil.wait_procs(owners)
for process in psutil.Process().children(recursive=True):
    process.kill()
"""


def shared_superlink(base: Path) -> Path:
    """Return the home of the SuperLink of these tests; the first who asks starts it.

    Args:
        base: the folder that all workers share.
    """
    home = base / "superlink"
    tests = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    with FileLock(base / "superlink.lock"):
        if not (home / PORTS).exists():
            home.mkdir()
            made = Deployment(home)
            made.environment["FEDNC_CACHE"] = str(home / "cache")  # a worker's own is removed with it
            made.start_coordinator(sys.executable, "-c", UNTIL, str(tests))
    return home


def alone(link: Path) -> FileLock:
    """Return the lock of who has runs at the shared SuperLink, or sites that join: a run asks all that are there."""
    return FileLock(link / "alone.lock")
