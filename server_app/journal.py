"""The run's folder: what happened, as JSON lines, and what a person reads while it happens."""

import itertools
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from secrets import token_hex
from typing import Any

from common import __version__
from common.config import Experiment
from common.errors import UserError, plain
from common.files import write_text
from common.installed import code_fingerprint
from common.logs import speak
from server_app.disk import make_folder, told

log = logging.getLogger("fednc")

# keys that may change when a run is taken up again: they do not decide what comes out
_FREE = (
    *("data-dir", "output-dir", "run-name", "resume", "device", "round-timeout", "round-retries"),
    *("checkpoint-every", "checkpoints-kept", "max-step"),
)
_ALWAYS = ("begin", "left-out", "stopped")  # of a start, not of a round: they stay where a run is taken up again
_PACKAGES = ("flwr", "torch", "torchvision", "numpy", "scikit-learn", "safetensors", "ray")


def quiet_logging() -> None:
    """Send FedNC's own lines to standard output, plain, and keep Flower's and Ray's to warnings."""
    speak(log)
    for noisy in ("flwr", "ray"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class Journal:
    """Writes one run's folder.

    Args:
        folder: of `locked`, made if absent; `config.json`, `versions.json` and `run.json` are written at once.
        experiment: the resolved configuration.

    Attributes:
        folder: as given.
        identity: a random word, drawn when the run begins and kept: a name may be used for another run.

    Raises:
        UserError: the folder cannot be made.
    """

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        self.folder = folder
        make_folder(folder)
        self._lines = folder / "metrics.jsonl"
        now, before = versions(), _read_json(folder / "versions.json")
        self.write_json("config", experiment.dump())
        begun = _read_json(folder / "run.json") if experiment.resume else {}
        # a run of a version before there were identities has none
        self.identity = str(begun.get("identity", "" if before and experiment.resume else token_hex(8)))
        self.write_json("run", {"identity": self.identity})
        self.write_json("versions", now)
        self._changed = {name: [before[name], now.get(name)] for name in before if before[name] != now.get(name)}

    def write_json(self, name: str, content: Any) -> None:
        """Write `<name>.json` into the run's folder."""
        path = self.folder / f"{name}.json"
        with told(path):
            write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")

    def keep_json(self, name: str, content: dict[str, Any], free: tuple[str, ...] = ()) -> None:
        """Write `<name>.json`; where a run is taken up again, it must be what it was.

        Args:
            name: of the file.
            content: what it says.
            free: keys that may change.

        Raises:
            UserError: it is not.
        """
        before, now = _read_json(self.folder / f"{name}.json"), json.loads(json.dumps(content))
        if differ := sorted(key for key in before.keys() - set(free) if before[key] != now.get(key)):
            raise UserError(f"resume: {', '.join(differ)} of the run in {self.folder} differ: are the data the same?")
        self.write_json(name, now)

    def forget_sites(self) -> None:
        """Forget what sites declared, and what was made of it, at a start that came to nothing."""
        for name in ("sites.json", "federation.json", "frame.safetensors"):
            path = self.folder / name
            with told(path):
                path.unlink(missing_ok=True)

    def site_names(self) -> list[str]:
        """Return the sites that have taken part, also those that are not there now."""
        return sorted(_read_json(self.folder / "sites.json"))

    def add_sites(self, sizes: Mapping[str, dict[str, int]]) -> dict[str, dict[str, int]]:
        """Add sites to what is known of them, and return what each known before declared when it first took part."""
        first, federation = (_read_json(self.folder / f"{name}.json") for name in ("sites", "federation"))
        self.write_json("sites", dict(sorted({**sizes, **first}.items())))
        if federation:
            self.write_json("federation", federation | {"site_names": self.site_names()})
        return first

    def event(self, kind: str, **facts: Any) -> None:
        """Append one line to `metrics.jsonl`; a value that is not finite is written as null."""
        line = {"event": kind, "time": round(time.time(), 3), **facts}
        with told(self._lines), self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(line), allow_nan=False) + "\n")

    def sync(self) -> None:
        """Bring all lines to the disk: a checkpoint that outlives a power cut must not be ahead of them."""
        with told(self._lines), self._lines.open("rb") as file:
            os.fsync(file.fileno())

    def begin(self, experiment: Experiment, server_round: int, sites: Mapping[str, Any]) -> None:
        """Take down what a start goes on from: everything that decides what comes out.

        Args:
            experiment: the resolved configuration.
            server_round: the last finished round.
            sites: what each site declares.
        """
        damaged = sorted(path.name for path in self.folder.glob("checkpoints/*.damaged"))
        facts = {"config": experiment.dump(), "versions": versions(), "sites": dict(sites), "damaged": damaged}
        self.event("begin", round=server_round, **facts)

    @contextmanager
    def to_the_end(self) -> Iterator[None]:
        """Take down why a run ended before its end."""
        try:
            yield
        except BaseException as error:
            with suppress(UserError):  # its disk may be what is full
                self.event("stopped", reason=plain(f"{type(error).__name__}: {error}", 500))
            raise

    def rewind(self, server_round: int) -> None:
        """Take back what was written after a round's checkpoint: it will happen again.

        The lines taken back are kept in `metrics.undone.jsonl`.
        """
        if not self._lines.exists():
            return
        kept: list[str] = []
        undone: list[str] = []
        for line in self._lines.read_text(encoding="utf-8", errors="replace").splitlines():
            (kept if _is_before(line, server_round) else undone).append(line + "\n")
        if undone:
            path = self.folder / "metrics.undone.jsonl"
            with told(self._lines):
                before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
                write_text(path, before + "".join(undone))
                write_text(self._lines, "".join(kept))
        if self._changed:
            log.warning("taken up with other versions than it began with: %s", ", ".join(self._changed))
            self.event("versions", round=server_round, changed=self._changed)


def _is_before(line: str, server_round: int) -> bool:
    """Whether a journal line belongs to what a checkpoint of this round holds; half a line does not."""
    try:
        event = json.loads(line)
        if event["event"] in _ALWAYS:
            return True
        # what is told of a round after its checkpoint: the generic model, and what the end brings
        after = event["event"] in ("generic", "norms") or event.get("stage", "arrival") != "arrival"
        return bool(event["round"] < server_round + (not after))
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"fednc": __version__, "python": platform.python_version(), "machine": platform.machine()}
    found["code"] = code_fingerprint()  # of the three packages
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `metrics.jsonl`, oldest first; half a line, which a crash leaves, is left out."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    events = []
    for line in lines:
        with suppress(ValueError):
            events.append(json.loads(line))
    return events


def run_folder(experiment: Experiment) -> Path:
    """Return a folder for the run below `output-dir`.

    Raises:
        UserError: `run-name` is taken by an earlier run, whose personal heads must not leak into this one; or,
            with `resume`, by a run of another experiment.
    """
    if experiment.run_name:
        folder = experiment.output_dir / experiment.run_name
        if experiment.resume:
            _check_same(folder, experiment)
        elif _holds_a_run(folder):
            raise UserError(f"run-name = '{experiment.run_name}': {folder} holds a run; take another name or remove it")
        return folder
    stem = f"{experiment.name}-{experiment.method}-seed{experiment.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    taken = (stem if not count else f"{stem}-{count}" for count in itertools.count())
    return next(path for name in taken if not (path := experiment.output_dir / name).exists())


def _holds_a_run(folder: Path) -> bool:
    """Whether more is there than what a start left that came to nothing."""
    events = read_events(folder) if (folder / "metrics.jsonl").exists() else []
    return (folder / "sites").exists() or any(event.get("event") not in _ALWAYS for event in events)


def _check_same(folder: Path, experiment: Experiment) -> None:
    before, now = _read_json(folder / "config.json"), experiment.dump()
    free = {*_FREE, *(("sites",) if experiment.partition == "deployed" else ())}  # how many real ones to begin with
    differ = [key for key in sorted(now.keys() - free) if before.get(key, now[key]) != now[key]]
    if differ:
        changes = "; ".join(f"{key} = {now[key]!r}, but the run in {folder} has {before[key]!r}" for key in differ)
        raise UserError(f"resume: {changes}: use the same")


def _read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file of an earlier start of the run, empty if there was none.

    Raises:
        UserError: it is damaged, or cannot be read just now.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read just now ({error.strerror}); let it be, and resume") from None
    except (ValueError, TypeError, RecursionError):
        raise UserError(f"{path}: cannot be read; the run in its folder cannot be resumed") from None


class Clock:
    """Estimates the time left from the mean duration of the rounds so far."""

    def __init__(self, rounds: int, done: int = 0) -> None:
        self._rounds, self._before, self._start = rounds, done, time.monotonic()

    def left(self, done: int) -> str:
        """Return the time left after `done` rounds."""
        each = (time.monotonic() - self._start) / max(1, done - self._before)
        return clock_time(each * (self._rounds - done))


def clock_time(seconds: float) -> str:
    """Return seconds as 'h:mm:ss' or 'm:ss'."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def percent(value: float | None) -> str:
    """Return '61.2 %', or '–' for what could not be measured."""
    return "–" if value is None or value != value else f"{100 * value:.1f} %"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
