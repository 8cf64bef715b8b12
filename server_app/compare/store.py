"""What a comparison keeps of its finished runs, in two files: see `lines.py` for what stands in them.

A line is added whole, under a lock, and never changed: several commands may share a folder, and one that is killed
leaves at most half a line, which the next one names and takes away. Of two lines of one result the later counts.
"""

import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from common.errors import UserError
from common.files import private_file, private_folder, write_text
from server_app.compare.lines import (
    EXPERIMENT,
    RUNS,
    StoredRun,
    changed,
    check_own,
    line_of,
    parse_line,
    read_shared,
    run_of,
    shared_text,
    variant_in,
)
from server_app.run.journal import log

if TYPE_CHECKING:  # PyTorch comes with it, which whoever only reads results need not wait for
    from server_app.compare.cells import Cell

OLDER = "older"  # the folder for files that are lines now
_MOST_NAMED = 5  # lines in a message
_FULL, _RIGHTS = "make room", "let this user write there"
_TO_DO = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EACCES: _RIGHTS, errno.EPERM: _RIGHTS, errno.EROFS: _RIGHTS}
_LOCKING = "use a disk that has locks (some network disks have none)"


class Store:
    """The finished runs in a folder, read once; results of older versions, a JSON file each, among them.

    Args:
        folder: of a comparison; it need not be there.

    Attributes:
        folder: the same.
        runs: each result once.
        problems: what is wrong with lines that are no results, or ''.

    Raises:
        UserError: a file cannot be read, or experiment.yaml is not the one that runs.jsonl was written with.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = _content(folder / RUNS)  # before experiment.yaml, which is there before the first line
        self._shared = read_shared(folder) if content else {}
        lines, self.problems = _parse(content, self._shared, folder)
        self.runs = list({(run.stem, run.config): run for run in [*lines, *_older(folder).values()]}.values())

    @classmethod
    def begin(cls, folder: Path, cells: "Sequence[Cell]") -> Self:
        """Return a folder's store, to be added to: the folder made if absent, results of older versions taken over.

        Args:
            folder: of the comparison.
            cells: at least one; a new experiment.yaml has what they share.

        Raises:
            UserError: as `Store`; or something cannot be written.
        """
        if (folder / EXPERIMENT).exists() and not (folder / RUNS).exists():
            check_own(folder)  # before anything is written there
        with _locked(folder) as file:
            if not _size(file):  # after the first line it is never written again
                if (folder / EXPERIMENT).exists():
                    check_own(folder)
                else:
                    write_text(folder / EXPERIMENT, shared_text([cell.identity() for cell in cells]))
            shared = read_shared(folder)
            _take_over(folder, file, shared, {cell.stem: cell.variant for cell in cells})
        store = cls(folder)
        store._shared = shared  # also where there is no line yet
        return store

    def find(self, cell: "Cell") -> StoredRun | None:
        """Return the finished run of exactly a cell's configuration and data, or None."""
        stem = cell.stem
        named = [run for run in reversed(self.runs) if run.stem == stem]
        return next((run for run in named if run.config == cell.config_hash or cell.made(run.result)), None)

    def save(self, cell: "Cell", result: Mapping[str, Any]) -> None:
        """Add a cell's result; of a store that was begun.

        Raises:
            UserError: it cannot be written.
        """
        run = StoredRun(cell.variant, dict(result))
        with _locked(self.folder) as file:
            _append(file, [line_of(run, self._shared)])
        self.runs = [old for old in self.runs if (old.stem, old.config) != (run.stem, run.config)] + [run]


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            with suppress(OSError):  # a disk without locks can be read, not written
                fcntl.flock(file, fcntl.LOCK_SH)  # no line is half written meanwhile
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); let it be read, and try again") from None


def _parse(content: bytes, shared: Mapping[str, Any], folder: Path) -> tuple[list[StoredRun], str]:
    """Return the runs of a runs.jsonl, and what is wrong with lines that are none."""
    runs, problems, strange = [], [], []
    texts = content.split(b"\n")
    for number, text in enumerate(texts, 1):
        line, reason = parse_line(text)
        if reason:
            half = number == len(texts)  # nothing follows, not even the end of a line
            problems.append(f"line {number}: {'half a line' if half else reason}")
        if line is None:
            continue
        run = replace(run_of(line, shared), where=f"{folder / RUNS}, line {number}")
        if run.config == line["config"]:
            runs.append(run)
        else:
            strange.append(number)
    if len(strange) > len(runs):  # what they share has changed, not a line of them
        count = f"{len(strange)} of {len(runs) + len(strange)} runs"
        raise changed(folder, f"is not the one that {count} were written with (the first: line {strange[0]})")
    problems += [f"line {number}: its keys are not those that it was written with" for number in strange]
    return runs, _named(problems, folder / RUNS)


def _named(problems: Sequence[str], path: Path) -> str:
    """Say how many lines are no results, and name the first; '' if none is."""
    more = [f"and {len(problems) - _MOST_NAMED} more"] if len(problems) > _MOST_NAMED else []
    words = f"{path}: {len(problems)} line(s) are no results and not used: "
    return words + "; ".join([*problems[:_MOST_NAMED], *more]) if problems else ""


# --- writing ----------------------------------------------------------------------------------------


@contextmanager
def _locked(folder: Path) -> Iterator[IO[bytes]]:
    """Open a folder's runs.jsonl, made if absent, for this process alone; half a last line is taken away.

    Raises:
        UserError: it cannot be opened or locked, or it or another file of the folder cannot be written.
    """
    path, tried = folder / RUNS, "opened"
    try:
        with private_file(private_folder(folder) / RUNS, "a+b") as file:
            tried = "locked"
            fcntl.flock(file, fcntl.LOCK_EX)  # a process that dies gives it back
            tried = "written"
            _end_last_line(file, path)
            yield file
    except OSError as error:
        where = path if tried != "written" or error.filename is None else error.filename
        todo = _TO_DO.get(error.errno or 0, _LOCKING if tried == "locked" else "put that right")
        raise UserError(
            f"{where}: cannot be {tried} ({error.strerror or error}); {todo}, or choose another --output; "
            "the runs' folders stay"
        ) from None


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _all(file: IO[bytes]) -> bytes:
    return os.pread(file.fileno(), _size(file), 0)  # past a buffer, which does not see what `os.write` adds


def _end_last_line(file: IO[bytes], path: Path) -> None:
    """Let the file end with a whole line: half a one is taken away; one that an editor saved may lack its end alone."""
    size = _size(file)
    if not size or os.pread(file.fileno(), 1, size - 1) == b"\n":
        return
    content = _all(file)
    start = content.rfind(b"\n") + 1
    line, _ = parse_line(content[start:])
    if line is not None:
        os.write(file.fileno(), b"\n")
        return
    os.ftruncate(file.fileno(), start)
    log.warning("%s: ended in half a line, which a stopped command left; it is taken away, its run done again", path)


def _append(file: IO[bytes], lines: Iterable[Mapping[str, Any]]) -> None:
    """Add whole lines in one write, which is on the disk after it; what cannot be written whole is not there."""
    before, content = _size(file), "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    try:
        if os.write(file.fileno(), content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), before)
        raise


# --- results of older versions, a JSON file each ----------------------------------------------------


def _older(folder: Path) -> dict[Path, StoredRun]:
    """Return the results in files of their own: `<stem>.json`, with a hash where another configuration had the name."""
    found = {}
    for path in sorted(folder.glob("*-seed*.json"), key=lambda path: path.stem):
        with suppress(OSError, ValueError, LookupError, TypeError):  # what is no result, `_take_over` names
            result = dict(json.loads(path.read_text(encoding="utf-8")))
            experiment = result["experiment"]
            run = StoredRun(variant_in(path.stem, experiment["method"], experiment["seed"]), result, str(path))
            line_of(run, {})
            found[path] = run
    return found


def _take_over(folder: Path, file: IO[bytes], shared: Mapping[str, Any], variants: Mapping[str, str]) -> None:
    """Make lines of the results in files of their own, and put the files aside: nothing reads them any more.

    A file's name has a variant without its punctuation; `variants` has, by stem, what the command knows.
    """
    older = {path: replace(run, variant=variants.get(run.stem, run.variant)) for path, run in _older(folder).items()}
    for path in sorted(set(folder.glob("*-seed*.json")) - older.keys()):
        log.warning("%s: is no result of a run; it stays and is not used", path)
    if not older:
        return
    runs, _ = _parse(_all(file), shared, folder)  # of a command that was killed here, too
    _append(file, [line_of(run, shared) for run in older.values() if run not in runs])
    aside = private_folder(folder / OLDER)
    for path in older:
        path.replace(aside / path.name)
    words = "%s: %d results in files of their own are lines of %s now; the files are in %s, where nothing reads them"
    log.info(words, folder, len(older), RUNS, aside)
