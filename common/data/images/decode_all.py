"""Many image files decoded by several threads: results in order, progress for a person, and every file that fails."""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from common.data.images.bad_images import Failure
from common.errors import UserError

log = logging.getLogger("fednc")

T = TypeVar("T")

_MOST_THREADS = 32
_SHORT = 4.0  # seconds of work that need no announcement
_PAUSE = 10.0  # seconds between two lines of progress
_AT_ONCE = 1 << 22  # bytes of pixels that a thread makes before it hands them over
_silent: ContextVar[bool] = ContextVar("silent", default=False)


def num_threads() -> int:
    """Return how many threads decode: one for each processor that this process may use. They change no result."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


@contextmanager
def silenced() -> Iterator[None]:
    """Silence announcements and warnings: for workers beside a process that has logged them."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def log_unless_silenced(level: int, text: str, *values: object) -> None:
    """Log a line, unless this is a worker beside others."""
    if not _silent.get():
        log.log(level, text, *values)


def decode_all(
    rows: int, work: Callable[[int], T], use: Callable[[int, T], object], image_bytes: int, what: str = ""
) -> list[Failure]:
    """Do the work on each row by several threads, and hand over the results in order.

    Args:
        rows: N; the work is done for 0 to N − 1.
        work: reads and decodes one image; called by any thread.
        use: takes a row and its result, in this thread.
        image_bytes: of a result, which limits how many wait.
        what: announced beforehand where the work takes more than a few seconds; without it nothing is said.

    Returns:
        Each row whose work ended in a `UserError`, and its message; `use` is not called for these.
    """
    failures: list[Failure] = []
    step = max(1, min(16, _AT_ONCE // max(1, image_bytes)))
    threads = num_threads()
    seconds = _expected(rows, work, threads) if what and rows > threads else 0.0
    with _progress(rows, seconds, threads, what) as advance, ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[int, Future[list[T | UserError]]]] = deque()
        starts = iter(range(0, rows, step))
        try:
            while True:
                while len(waiting) < 3 * threads and (start := next(starts, None)) is not None:
                    waiting.append((start, pool.submit(_some, work, range(start, min(start + step, rows)))))
                if not waiting:
                    return failures
                first, future = waiting.popleft()
                for row, result in enumerate(future.result(), first):
                    if isinstance(result, UserError):
                        failures.append((row, str(result)))
                    else:
                        use(row, result)
                    advance()
        finally:
            pool.shutdown(cancel_futures=True)


def format_bytes(size: float) -> str:
    """Return bytes as people read them, in MiB or GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _some(work: Callable[[int], T], rows: range) -> list[T | UserError]:
    return [_one(work, row) for row in rows]


def _one(work: Callable[[int], T], row: int) -> T | UserError:
    try:
        return work(row)
    except UserError as error:
        return error


def _expected(rows: int, work: Callable[[int], T], threads: int) -> float:
    """Return about how many seconds all rows take, by three of them."""
    began = time.perf_counter()
    for row in (0, rows // 2, rows - 1):
        _one(work, row)
    return (time.perf_counter() - began) / 3 * rows / threads


@contextmanager
def _progress(rows: int, seconds: float, threads: int, what: str) -> Iterator[Callable[[], None]]:
    """Yield what is called after each row: it shows a bar on a terminal, else a line from time to time."""
    if seconds < _SHORT or _silent.get():
        yield lambda: None
        return
    log.info("%s; decoding with %d threads, about %s", what, threads, _duration(seconds))
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("decoding images", total=rows)
            yield lambda: bar.advance(task)
        return
    done, began = 0, time.monotonic()
    last_logged = began

    def advance() -> None:
        nonlocal done, last_logged
        done += 1
        if (now := time.monotonic()) - last_logged >= _PAUSE and done < rows:
            last_logged = now
            left = (now - began) / done * (rows - done)
            log.info("decoded %s of %s images, about %s to go", f"{done:,}", f"{rows:,}", _duration(left))

    yield advance


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
