"""The run's folder: the journal (`metrics.jsonl`), JSON files, and the log lines that a person reads."""

import json
import logging
import os
import platform
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from secrets import token_hex
from typing import Any

from common import __version__
from common.config import Experiment
from common.errors import UserError, one_line
from common.files import private_file, write_text
from common.installed import code_fingerprint
from common.logs import configure_logger
from server_app.run.disk import explain_write_errors, make_folder
from server_app.run.events import KINDS, START_EVENTS, Event, JournalLines, parse_line, parse_lines

log = logging.getLogger("fednc")

WITHDRAWN = "withdrawn.json"  # site → when, and the hash of its sums

_PACKAGES = ("flwr", "torch", "torchvision", "numpy", "scikit-learn", "safetensors", "ray")


def quiet_logging() -> None:
    """Send FedNC's own lines to standard output, plain, and keep Flower's and Ray's to warnings."""
    configure_logger(log)
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
        now, before = versions(), read_json(folder / "versions.json")
        self.write_json("config", experiment.dump())
        begun = read_json(folder / "run.json") if experiment.run.resume else {}
        # a run of a version before there were identities has none
        self.identity = str(begun.get("identity", "" if before and experiment.run.resume else token_hex(8)))
        self.set_identity(self.identity)
        self.write_json("versions", now)
        self._changed = {name: [before[name], now.get(name)] for name in before if before[name] != now.get(name)}

    def set_identity(self, identity: str) -> None:
        """Adopt this run identity: the checkpoint's, if the folder's `run.json` was lost."""
        self.identity = identity
        self.write_json("run", {"identity": identity})

    def write_json(self, name: str, content: Any) -> None:
        """Write `<name>.json` into the run's folder."""
        path = self.folder / f"{name}.json"
        with explain_write_errors(path):
            write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")

    def write_unchanged_json(self, name: str, content: dict[str, Any], free: tuple[str, ...] = ()) -> None:
        """Write `<name>.json`; where a run is taken up again, it must be what it was.

        Args:
            name: of the file.
            content: what it says.
            free: keys that may change.

        Raises:
            UserError: it is not.
        """
        check_unchanged(self.folder / f"{name}.json", content, free)
        self.write_json(name, content)

    def delete_site_files(self) -> None:
        """Delete the files about sites that an aborted start left."""
        for name in ("sites.json", "federation.json", "splits.csv", "frame.safetensors"):
            path = self.folder / name
            with explain_write_errors(path):
                path.unlink(missing_ok=True)

    def site_names(self) -> list[str]:
        """Return the sites that have taken part, also those that are not there now."""
        return sorted(read_json(self.folder / "sites.json"))

    def add_sites(self, sizes: Mapping[str, dict[str, int]]) -> dict[str, dict[str, int]]:
        """Add sites to what is known of them, and return what each known before declared when it first took part."""
        first, federation = (read_json(self.folder / f"{name}.json") for name in ("sites", "federation"))
        self.write_json("sites", dict(sorted({**sizes, **first}.items())))
        if federation:
            self.write_json("federation", federation | {"site_names": self.site_names()})
        return first

    def withdrawn(self) -> frozenset[str]:
        """Return the sites whose part was taken out of the run: see `fednc withdraw`."""
        return frozenset(read_json(self.folder / WITHDRAWN))

    def event(self, kind: str, **facts: Any) -> None:
        """Append one line to `metrics.jsonl`; a value that is not finite is written as null."""
        line = {"event": kind, "time": round(time.time(), 3), **facts}
        with explain_write_errors(self._lines), private_file(self._lines, "a") as file:
            file.write(json.dumps(_finite(line), allow_nan=False) + "\n")

    def sync(self) -> None:
        """Bring all lines to the disk: a checkpoint that outlives a power cut must not be ahead of them."""
        with explain_write_errors(self._lines), self._lines.open("rb") as file:
            os.fsync(file.fileno())

    def begin(self, experiment: Experiment, server_round: int, sites: Mapping[str, Any]) -> None:
        """Record everything that determines the results of this start.

        Args:
            experiment: the resolved configuration.
            server_round: the last finished round.
            sites: what each site declares.
        """
        damaged = sorted(path.name for path in self.folder.glob("checkpoints/*.damaged"))
        facts = {"config": experiment.dump(), "versions": versions(), "sites": dict(sites), "damaged": damaged}
        self.event("begin", round=server_round, **facts)

    @contextmanager
    def record_failure(self) -> Iterator[None]:
        """Record the reason if the run ends early."""
        try:
            yield
        except BaseException as error:
            with suppress(UserError):  # its disk may be what is full
                self.event("stopped", reason=one_line(f"{type(error).__name__}: {error}", 500))
            raise

    def rewind(self, server_round: int) -> None:
        """Remove the events after a round's checkpoint: those rounds will be repeated.

        The lines taken back are kept in `metrics.undone.jsonl`.
        """
        if not self._lines.exists():
            return
        text = self._lines.read_text(encoding="utf-8", errors="replace")
        if (lines := parse_lines(text)).problems:
            log.warning("%s: %s; they are moved to metrics.undone.jsonl", self.folder, lines)
        kept: list[str] = []
        undone: list[str] = []
        for line in text.splitlines():
            (kept if _is_before(parse_line(line)[0], server_round) else undone).append(line + "\n")
        if undone:
            path = self.folder / "metrics.undone.jsonl"
            with explain_write_errors(self._lines):
                before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
                write_text(path, before + "".join(undone))
                write_text(self._lines, "".join(kept))
        if self._changed:
            log.warning("taken up with other versions than it began with: %s", ", ".join(self._changed))
            self.event("versions", round=server_round, changed=self._changed)


def _is_before(event: Event | None, server_round: int) -> bool:
    """Whether an event belongs to what a checkpoint of this round holds; what is none does not."""
    if event is None:
        return False
    kind, number = event["event"], event.get("round")
    if kind in START_EVENTS or number is None:
        return kind not in KINDS or kind in START_EVENTS  # the summary has no round: it will be made again
    # written after the checkpoint of its round: the generic evaluation, and the final stage
    after = kind in ("generic", "norms") or event.get("stage", "arrival") != "arrival"
    return bool(number < server_round + (not after))


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


def read_events(folder: Path) -> list[Event]:
    """Return the events of a run's `metrics.jsonl`, oldest first; lines that are none are named in the log.

    Raises:
        UserError: it is not there, or cannot be read.
    """
    lines = read_lines(folder)
    if lines.problems:
        log.warning("%s: %s", folder, lines)
    return lines.events


def read_lines(folder: Path) -> JournalLines:
    """Return a run's `metrics.jsonl` with what is wrong with its lines; raise `UserError` if it cannot be read."""
    path = folder / "metrics.jsonl"
    try:
        return parse_lines(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): is {folder} a run's folder?") from None


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file of a run's folder, empty if there is none.

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
        raise UserError(
            f"{path}: cannot be read: it is damaged; put a copy back, or remove it and resume without"
        ) from None


def check_unchanged(path: Path, content: Mapping[str, Any], free: Collection[str] = ()) -> None:
    """Compare what a JSON file of a run's folder says with what it would say now.

    Args:
        path: of the file.
        content: what it would say.
        free: keys that may change.

    Raises:
        UserError: it says something else, or cannot be read.
    """
    before, now = read_json(path), json.loads(json.dumps(content))
    if differ := sorted(key for key in before.keys() - set(free) if before[key] != now.get(key)):
        raise UserError(f"resume: {', '.join(differ)} of the run in {path.parent} differ: are the data the same?")


class RemainingTime:
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
