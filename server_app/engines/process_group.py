"""Ends all processes that a command started, however the command ends and whatever session they moved to."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from server_app.engines import watcher
from server_app.engines.stopping import ignore_signals


@contextmanager
def process_group() -> Iterator[dict[str, str]]:
    """Yield the environment of processes that end with the block, with all that they have started.

    If this process is killed meanwhile, a watcher beside it ends them.
    """
    mark = token_hex(8)
    marks = f"{os.environ.get(watcher.MARKS, '')} {mark}".strip()
    beside = subprocess.Popen(
        [sys.executable, "-P", watcher.__file__, mark],
        cwd=Path(watcher.__file__).parent,  # not one that is removed
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C does not reach it
    )
    try:
        yield {**os.environ, watcher.MARKS: marks}
    finally:
        with ignore_signals():
            watcher.end_marked(mark)
            beside.communicate()  # it looks once more, and ends
