"""Resuming a run: its folder, which keys may change, and which files are missing."""

import itertools
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.config import Experiment
from common.config.rows import keys_where
from common.errors import UserError
from common.models.model import frame_kind
from common.models.trained import GENERIC
from server_app.run.checkpoint import Checkpoint, checkpoint_rounds
from server_app.run.events import START_EVENTS
from server_app.run.journal import Journal, check_unchanged, log, read_json, read_lines

# what a run that has a checkpoint has in its folder, and what becomes of it where that is lost
_FILES = {
    "config.json": "nobody can say whether the configuration is the same",
    "versions.json": "nobody can say whether the versions are the same",
    "sites.json": "sites count for the images that they declare now",
    "federation.json": "nobody can say whether the data are the same",
    "splits.csv": "nobody can say whether each image is on the side that it was on",
    "frame.safetensors": "the frame is built anew from the seed",
    "metrics.jsonl": "the metrics of the rounds before are lost",
}


def run_folder(experiment: Experiment) -> Path:
    """Return a folder for the run below `output-dir`.

    Raises:
        UserError: `run-name` is taken by an earlier run, whose personal heads must not leak into this one; or,
            with `resume`, by a run of another experiment, or one that has more rounds behind it.
    """
    if experiment.run.run_name:
        folder = experiment.run.output_dir / experiment.run.run_name
        if experiment.run.resume:
            _check_same(folder, experiment)
        elif contains_run(folder):
            raise UserError(
                f"run-name = '{experiment.run.run_name}': {folder} holds a run; take another name, "
                "continue that run with resume=true, or remove it"
            )
        return folder
    stem = f"{experiment.name}-{experiment.method}-seed{experiment.run.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    taken = (stem if not count else f"{stem}-{count}" for count in itertools.count())
    return next(path for name in taken if not (path := experiment.run.output_dir / name).exists())


def contains_run(folder: Path) -> bool:
    """Whether the folder holds more than the remains of an aborted start."""
    if any((folder / name).exists() for name in ("sites", "summary.json", GENERIC)) or checkpoint_rounds(folder):
        return True
    if not (folder / "metrics.jsonl").exists():
        return False
    lines = read_lines(folder)
    return bool(lines.problems) or any(event["event"] not in START_EVENTS for event in lines.events)


def _check_same(folder: Path, experiment: Experiment) -> None:
    differ = changed_keys(folder, experiment)
    free = keys_where(lambda facts: facts.resume != "fixed")
    free |= {"sites"} if experiment.sites.partition == "deployed" else set()  # how many real ones to begin with
    if refused := sorted(differ.keys() - free):
        changes = "; ".join(f"{k} = {differ[k][1]!r}, but the run in {folder} has {differ[k][0]!r}" for k in refused)
        raise UserError(f"resume: {changes}: use the same")
    if (done := max(checkpoint_rounds(folder), default=0)) > experiment.rounds.rounds:
        raise UserError(
            f"resume: rounds = {experiment.rounds.rounds}, but the run in {folder} has {done} rounds behind it: "
            f"give {done}, which ends it there, or more"
        )


def changed_keys(folder: Path, experiment: Experiment) -> dict[str, tuple[Any, Any]]:
    """Return the keys in which an experiment differs from that of the run in a folder, with both values."""
    before, now = read_json(folder / "config.json"), experiment.dump()
    return {key: (before[key], now[key]) for key in sorted(now) if before.get(key, now[key]) != now[key]}


class ResumeCheck:
    """Compares a run's folder with this start before anything is written.

    Args:
        folder: the run's.
        experiment: the configuration of this start.
        with_splits: whether the run writes which image is on which side.
    """

    def __init__(self, folder: Path, experiment: Experiment, with_splits: bool = False) -> None:
        self._folder = folder
        optional = {"frame.safetensors": bool(frame_kind(experiment)), "splits.csv": with_splits}
        self._files = {name: then for name, then in _FILES.items() if optional.get(name, True)}
        resumes = experiment.run.resume and folder.exists()
        own = {"name", *keys_where(lambda facts: facts.stays)}  # of this machine and start
        changed = changed_keys(folder, experiment) if resumes else {}
        self._changed = {key: values for key, values in changed.items() if key not in own}
        self._there = {path.name for path in folder.iterdir()} if resumes else set[str]()
        for name in self._there & {*_FILES, "run.json"}:
            if name.endswith(".json"):
                read_json(folder / name)  # what cannot be read is refused while nothing has changed
        events = read_lines(folder).events if resumes and "metrics.jsonl" in self._there else []
        self._rounds = {event["round"] for event in events if event["event"] == "round"}
        self._finished = any(event["event"] == "summary" for event in events)
        then = {key: values[0] for key, values in changed.items()}
        self._every = then.get("checkpoint-every", experiment.run.checkpoint_every)
        self._last = then.get("rounds", experiment.rounds.rounds)

    def check_data(self, facts: Mapping[str, Any], free: Collection[str]) -> None:
        """Refuse other data than the run's before anything is written: what it has finished stays as it is.

        Args:
            facts: of the data, as `federation.json` has them.
            free: keys that may change.

        Raises:
            UserError: they are other data.
        """
        if "federation.json" in self._there and checkpoint_rounds(self._folder):
            check_unchanged(self._folder / "federation.json", facts, free)

    def log_changes(self, journal: Journal, checkpoint: Checkpoint | None) -> None:
        """Record in the log and the journal what has changed and what is missing; restore a lost identity."""
        done = checkpoint.server_round if checkpoint else 0
        for what, then in self._missing(journal, checkpoint):
            log.warning("missing in %s: %s: %s", self._folder, what, then)
            journal.event("missing", round=done, what=what, then=then)
        if checkpoint and self._changed:
            words = "; ".join(f"{key} = {now!r} (was {before!r})" for key, (before, now) in self._changed.items())
            log.info("from round %d on: %s", done + 1, words)
            journal.event("changed", round=done, keys={key: list(values) for key, values in self._changed.items()})

    def _missing(self, journal: Journal, checkpoint: Checkpoint | None) -> Sequence[tuple[str, str]]:
        if not checkpoint:
            if not self._rounds:
                return []
            rounds = len(self._rounds)
            return [("checkpoints", f"the run begins again; its {rounds} rounds before are in metrics.undone.jsonl")]
        found = [(name, then) for name, then in self._files.items() if name not in self._there]
        if (lost := self._lost_checkpoint(checkpoint.server_round)) is not None:
            then = f"the rounds after {checkpoint.server_round} are done again"
            found.append((f"checkpoint of round {lost}", then))
        gaps = sorted(set(range(1, checkpoint.server_round + 1)) - self._rounds)
        if gaps and "metrics.jsonl" in self._there:
            found.append(("lines of metrics.jsonl", f"the metrics of {len(gaps)} rounds are lost, {_span(gaps)}"))
        known, lost = checkpoint.identity, "run.json" not in self._there
        if known and journal.identity != known:
            journal.set_identity(known)
            found.append(("run.json", "the run's identity is taken from its checkpoint"))
        elif lost and not known and journal.identity:
            found.append(("run.json", "the run has a new identity: real sites' personal parts begin anew"))
        return found

    def _lost_checkpoint(self, done: int) -> int | None:
        """Return the newest round after `done` whose checkpoint was there once, and is not among the damaged ones.

        A coordinator may be killed after the line of its last round and before that checkpoint.
        """
        sure = self._rounds if self._finished else self._rounds - {max(self._rounds, default=0)}
        every = self._every if isinstance(self._every, int) and self._every > 0 else 1
        due = [number for number in sure if number > done and (number % every == 0 or number == self._last)]
        damaged = {path.stem for path in (self._folder / "checkpoints").glob("*.damaged")}
        return next((n for n in sorted(due, reverse=True) if f"round-{n:05}" not in damaged), None)


def _span(numbers: Sequence[int]) -> str:
    return f"round {numbers[0]}" if len(numbers) == 1 else f"between rounds {numbers[0]} and {numbers[-1]}"
