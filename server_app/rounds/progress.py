"""Progress lines within a long round: how many sites have answered."""

import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from server_app.rounds.round import Round
from server_app.run.journal import clock_time, log

_FIRST = 10.0  # seconds into a round: a shorter one needs no line but its own
_SPACING = (30.0, 300.0)  # seconds between two lines, the shortest and the longest
_SHARE = 0.25  # of the time gone: lines of a round of hours are further apart
_FEW = 3  # sites that are named where only they are missing


@runtime_checkable
class WaitingGrid(Protocol):
    """A grid that calls `on_wait` now and then while it waits for replies; Flower's own does not."""

    on_wait: Callable[[], object]


class RoundProgress:
    """Logs a line at intervals, when polled by whoever waits for replies; it has no thread of its own.

    Args:
        rounds: of the run; a later one is that of the personal models.
        clock: seconds since any moment.
    """

    def __init__(self, rounds: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rounds, self._clock = rounds, clock
        self.begin(Round(0, []))

    def begin(self, now: Round) -> None:
        """Follow a round that begins."""
        self._round, self._started = now, self._clock()
        self._due = self._started + _FIRST

    def log_if_due(self) -> None:
        """Log a line if one is due and replies are missing."""
        moment, now = self._clock(), self._round
        missing = [site for site in now.asked if site not in now.responded]
        if moment < self._due or not missing:
            return
        gone = moment - self._started
        self._due = moment + min(max(_SPACING[0], _SHARE * gone), _SPACING[1])
        what = f"round {now.number}/{self._rounds}" if now.number <= self._rounds else "personal models"
        few = f"; not yet: {', '.join(missing)}" if len(missing) <= min(_FEW, len(now.asked) - 1) else ""
        responded, asked = len(now.asked) - len(missing), len(now.asked)
        log.info("%s: %d of %d sites have answered, %s%s", what, responded, asked, clock_time(gone), few)
