"""What a person sees of a comparison while it runs: bars on a terminal, plain lines elsewhere."""

import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from common.config import Experiment
from common.methods import METHODS
from server_app.run.events import parse_line
from server_app.run.journal import log, percent
from server_app.run.metrics import generic_score


@dataclass
class RunProgress:
    """How far a running cell is, by its journal.

    Attributes:
        journal: its metrics.jsonl, which need not exist yet.
        head: the generic head that its method is judged by; None without one.
        round: the last finished round.
        generic, personal: last accuracy (0..1) of that head, and of the arriving personal models.
    """

    journal: Path
    head: str | None
    round: int = 0
    generic: float | None = None
    personal: float | None = None
    _read: int = field(default=0, repr=False)  # bytes of the journal seen so far

    def refresh(self) -> None:
        """Take in the lines that were added since the last time; half a line waits for its other half."""
        try:
            with self.journal.open("rb") as file:
                file.seek(self._read)
                lines, end, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        self._read += len(lines) + len(end)
        for line in lines.splitlines():
            event, _ = parse_line(line.decode("utf-8", errors="replace"))
            if event is not None:  # what is none is named when the run's metrics are read
                self._apply_event(event)

    def _apply_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "round":
            self.round = event["round"]
        elif event["event"] == "generic" and event["head"] == self.head:
            self.generic = generic_score(event)
        elif event["event"] == "personal" and event["stage"] == "arrival" and event["mean"] is not None:
            self.personal = event["mean"]  # None: no site of the round has a test image

    def words(self, rounds: int) -> str:
        """Return 'round 35 of 100, generic 61.2 %, personal 80.1 %' with what is known."""
        metrics = (("generic", self.generic), ("personal", self.personal))
        known = [f"{name} {percent(value)}" for name, value in metrics if value is not None]
        return ", ".join([f"round {self.round} of {rounds}", *known])


class Display:
    """Shows a comparison: one bar for all of it and one a running cell, or plain lines where no terminal is.

    Args:
        runs: number of runs in the comparison.
        kept: how many of them were done before.
        rounds: rounds of all runs that are still to be done.
        console: where to draw; None: standard output if it is a terminal.
    """

    def __init__(self, runs: int, kept: int, rounds: int, console: Console | None = None) -> None:
        self._runs, self._done, self._failed, self._rounds = runs, kept, 0, rounds
        self._finished_rounds, self._start = 0, time.monotonic()
        self._watches: dict[str, tuple[RunProgress, int, TaskID]] = {}
        if console is None and sys.stdout.isatty():
            console = Console()
        self._bars = None if console is None else _bars(console)
        self._all = self._bars.add_task("", total=max(1, rounds), words="") if self._bars else TaskID(0)

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            for _, _, task in self._watches.values():  # of an interrupted comparison
                self._bars.remove_task(task)
            self._bars.stop()

    def started(self, name: str, experiment: Experiment, folder: Path) -> None:
        """Follow a run whose folder this is."""
        if self._bars:
            watch = RunProgress(folder / "metrics.jsonl", METHODS[experiment.method].reported_head)
            task = self._bars.add_task(name, total=experiment.rounds.rounds, words="starting")
            self._watches[name] = watch, experiment.rounds.rounds, task

    def refresh(self) -> None:
        """Show what the running cells have written since the last time."""
        if not self._bars:
            return
        for watch, rounds, task in self._watches.values():
            watch.refresh()
            self._bars.update(task, completed=watch.round, words=watch.words(rounds) if watch.round else "starting")
        done = self._finished_rounds + sum(watch.round for watch, _, _ in self._watches.values())
        title = f"{self._done} of {self._runs} runs" + (f", {self._failed} failed" if self._failed else "")
        total = max(1, self._rounds)
        self._bars.update(self._all, total=total, completed=done, description=title, words=self._times(done))
        self._bars.refresh()

    def finished(self, name: str, trouble: str | None) -> None:
        """Say that a run is done, or why it failed."""
        self._done += trouble is None
        self._failed += trouble is not None
        line = f"{name}: {trouble or 'done'}"
        if not self._bars:
            log.info("%s", line)
            return
        watch, rounds, task = self._watches.pop(name)
        watch.refresh()
        self._finished_rounds += watch.round
        self._rounds -= rounds - watch.round  # of a failed run: nobody does them any more
        self._bars.remove_task(task)
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self.refresh()

    def _times(self, done: int) -> str:
        """Return the time gone and, judged by the rounds done so far, the time left."""
        gone = time.monotonic() - self._start
        left = f", about {_clock(gone / done * (self._rounds - done))} left" if done else ""
        return f"{_clock(gone)} gone{left}"


def _bars(console: Console) -> Progress:
    name, words = (TextColumn(part, markup=False) for part in ("{task.description}", "{task.fields[words]}"))
    columns = (name, BarColumn(bar_width=24), words)
    return Progress(*columns, console=console, auto_refresh=False)  # `refresh` draws


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
