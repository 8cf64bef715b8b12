"""Several pieces of work that take turns, so that whatever else the machine does falls on all of them alike.

Each piece runs in a thread of its own, but only one at a time: it does one lap (a round, a pass over the images),
hands over, and waits. The order of the laps changes from cycle to cycle.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

Lap = Callable[[], None]
Work = Callable[[Lap], object]  # calls what it is given before every lap, for ever

_WARM_UP = 1  # laps that are not counted


class _EnoughError(Exception):
    """All laps are done; ends a piece of work wherever it is."""


@dataclass
class _Seat:
    laps: int
    done: threading.Event
    go: threading.Event = field(default_factory=threading.Event)
    seconds: list[float] = field(default_factory=list)
    began: float | None = None
    trouble: BaseException | None = None

    def lap(self) -> None:
        """End the lap that runs, if any, hand over, and wait for the next one."""
        if self.began is not None:
            _settle()
            self.seconds.append(time.perf_counter() - self.began)
        self.done.set()
        self.go.wait()
        self.go.clear()
        if len(self.seconds) == self.laps:
            raise _EnoughError
        self.began = time.perf_counter()

    def work(self, work: Work) -> None:
        """Run the piece of work until it has its laps, or fails."""
        try:
            work(self.lap)
            self.trouble = RuntimeError("it ended before it had all its laps")
        except _EnoughError:
            pass
        except BaseException as error:
            self.trouble = error
        self.done.set()


def take_turns(works: Mapping[str, Work], laps: int) -> dict[str, list[float]]:
    """Return the seconds of each piece's laps, of which the i-th of all pieces lie next to each other in time.

    Args:
        works: by name.
        laps: how many are counted, after one to warm up.

    Raises:
        Exception: what a piece of work raised.
    """
    done = threading.Event()
    seats = {name: _Seat(laps + _WARM_UP, done) for name in works}
    threads = [threading.Thread(target=seats[name].work, args=(works[name],), daemon=True) for name in works]
    for thread, seat in zip(threads, seats.values(), strict=True):
        thread.start()  # it comes as far as its first lap
        _await(seat)
    order = list(seats.values())
    for _ in range(laps + _WARM_UP + 1):  # the last time they only end
        for seat in order:
            seat.go.set()
            _await(seat)
        order = order[1:] + order[:1]
    for thread in threads:
        thread.join()
    return {name: seat.seconds[_WARM_UP:] for name, seat in seats.items()}


def _await(seat: _Seat) -> None:
    seat.done.wait()
    seat.done.clear()
    if seat.trouble is not None:
        raise seat.trouble


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
