"""Methods × a study's variants × seeds on one experiment, several runs side by side, finished runs kept.

Every run starts from the same initial weights, partition and budget: all of them derive from the seed
and the experiment alone. Finished runs are lines of `runs.jsonl`; an interrupted comparison continues where it was.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from common.config import build
from common.data import load_dataset
from common.data.sources.checks import class_notes, named, unmeasured
from common.errors import UserError, last_line
from common.files import private_file, private_folder
from server_app.compare.cells import Cell, data_fingerprint, own_run_folder
from server_app.compare.progress import Display
from server_app.compare.store import Store
from server_app.engines.engines import run_experiment
from server_app.engines.flower_run import KEEP_MEMORY
from server_app.engines.process_group import process_group
from server_app.engines.stopping import Stopped, collect_signals, exit_now, raise_on_signals
from server_app.generic.multilabel_analysis import prototype_cosine
from server_app.run.journal import log, read_events
from server_app.run.metrics import generic_score

__all__ = ["Cell", "compare", "curves", "data_fingerprint", "run_cell"]

_POLL_SECONDS = 0.25
_STOP_SECONDS = 20.0  # longer than a child waits for its SuperLink


@dataclass(frozen=True)
class _Child:
    """A cell that runs in a process (group) of its own."""

    cell: Cell
    folder: Path
    process: subprocess.Popen[bytes]


def compare(cells: Sequence[Cell], folder: Path, jobs: int, engine: str = "local", minutes: float = math.inf) -> int:
    """Run every cell that has no result yet; return how many failed.

    Args:
        cells: the runs.
        folder: of the results, see `store.py`; made if absent. What other configurations left stays.
        jobs: how many runs side by side, each in a process of its own.
        engine: what runs them; the results are equal.
        minutes: after which it stops, and says so; with none left it starts nothing.

    Raises:
        UserError: the folder cannot be made, or the data cannot be read.
        Stopped: by a signal.
    """
    try:
        private_folder(folder / "runs")
    except OSError as error:
        raise UserError(f"output: cannot write to {folder} ({error.strerror}); choose another") from None
    # fetched and checked once, before any worker needs it; notes on the data are logged here as a run would
    for note in dict.fromkeys(note for cell in cells for note in _data_notes(cell)):
        log.warning(note)
    store = Store.begin(folder, cells)
    if store.problems:
        log.warning(store.problems)
    open_cells = [cell for cell in cells if store.find(cell) is None]
    kept = len(cells) - len(open_cells)
    log.info("%d runs, %d of them already done", len(cells), kept)
    with Display(len(cells), kept, sum(cell.experiment.rounds.rounds for cell in open_cells)) as display:
        return _run_all(open_cells, store, jobs, engine, display, time.monotonic() + 60 * minutes)


def curves(run_folder: Path) -> dict[str, list[list[float]]]:
    """Return [round, accuracy] points of each generic head and of the arriving personal models, where measured."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    for event in read_events(run_folder):
        if event["event"] == "generic":
            name, server_round, accuracy = event["head"], event["round"], generic_score(event)
        elif event["event"] == "personal" and event["stage"] == "arrival":
            name, server_round, accuracy = "personal", event["round"] - 1, event["mean"]
        else:
            continue
        if accuracy is not None:  # sites without a test image measure nothing
            found[name].append([server_round, round(accuracy, 4)])
    return dict(found)


def _data_notes(cell: Cell) -> list[str]:
    """Return notes on a cell's images: the loader's, and which classes cannot be measured."""
    dataset = load_dataset(cell.experiment)
    notes = [*dataset.notes, *class_notes(dataset)]
    if classes := unmeasured(dataset.test.labels, dataset.classes) if len(dataset.test) else ():
        notes.append(f"the test images cannot measure {named(classes)}")
    return [f"{dataset.name}: {note}" for note in dict.fromkeys(notes)]


# --- the children -----------------------------------------------------------------------------------


def run_cell(values: str, engine: str) -> None:
    """Run one cell (the body of a comparison's child process)."""
    try:
        with raise_on_signals():  # what the engine started is stopped on the way out
            run_experiment(build(json.loads(values)), engine)
    except UserError as error:
        sys.exit(str(error))  # one line for the log, and exit code 1
    except Stopped as stop:
        exit_now(stop)


def _run_all(cells: Sequence[Cell], store: Store, jobs: int, engine: str, display: Display, end: float) -> int:
    """Keep `jobs` children running until every cell has had its turn; leave none behind. Return the failures."""
    running: list[_Child] = []
    waiting, failed, folder = list(cells), 0, store.folder
    with collect_signals() as signals, process_group() as environment:
        try:
            while waiting or running:
                while waiting and len(running) < jobs and not signals and time.monotonic() < end:
                    child = _start(waiting.pop(0), folder, engine, environment)
                    running.append(child)
                    display.started(child.cell.stem, child.cell.experiment, child.folder)
                time.sleep(_POLL_SECONDS)
                display.refresh()
                for child in [c for c in running if c.process.poll() is not None]:
                    running.remove(child)
                    trouble = _collect(child, store)
                    failed += trouble is not None
                    display.finished(child.cell.stem, trouble)
                if signals:
                    stop = Stopped(signals[0])
                    stop.add_note(f"{folder} keeps the finished runs, and the same command goes on")
                    raise stop
                if time.monotonic() > end and (waiting or running):
                    log.info("the time is up; %s keeps what is done, and the same command goes on", folder)
                    break
        finally:
            _stop(running, signals)
    return failed


def _start(cell: Cell, folder: Path, engine: str, environment: Mapping[str, str]) -> _Child:
    run_folder = own_run_folder(folder, cell)
    program = "import sys; from server_app.compare.runner import run_cell; run_cell(*sys.argv[1:])"
    values = cell.experiment.dump() | {
        "output-dir": str(run_folder.parent),
        "run-name": run_folder.name,
        "resume": True,
    }
    with private_file(run_folder / "log.txt") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", program, json.dumps(values), engine],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**KEEP_MEMORY, **environment},
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then stops its children
        )
    return _Child(cell, run_folder, process)


def _collect(child: _Child, store: Store) -> str | None:
    """Keep the result of a child that has ended; return the reason where it failed."""
    cell, run_folder = child.cell, child.folder
    if child.process.returncode:
        text = (run_folder / "log.txt").read_text(encoding="utf-8", errors="replace")
        return f"failed: {_reason(text)} (see {run_folder / 'log.txt'})"
    result = {
        "experiment": cell.identity(),
        "data": data_fingerprint(cell.experiment),
        "versions": json.loads((run_folder / "versions.json").read_text(encoding="utf-8")),
        "summary": json.loads((run_folder / "summary.json").read_text(encoding="utf-8")),
        "curves": curves(run_folder),
    }
    if (cosine := prototype_cosine(run_folder)) is not None:
        result["prototype_cosine"] = cosine
    store.save(cell, result)
    return None


def _reason(text: str) -> str:
    """Return why a run failed, from its output: the coordinator's own line, else the last one."""
    error_lines = [line.removeprefix("error: ") for line in text.splitlines() if line.startswith("error: ")]
    return error_lines[-1] if error_lines else last_line(text) or "no output"


def _stop(children: Sequence[_Child], signals: Sequence[int]) -> None:
    """End the children and what they started; none is waited for long, after a second Ctrl-C not at all."""
    for child in children:
        _signal(child, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while any(child.process.poll() is None for child in children) and time.monotonic() < deadline and len(signals) < 2:
        time.sleep(_POLL_SECONDS)
    for child in children:
        _signal(child, signal.SIGKILL)
        child.process.wait()


def _signal(child: _Child, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        if child.process.poll() is None:
            os.killpg(child.process.pid, number)
