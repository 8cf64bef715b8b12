"""Methods × a study's variants × seeds on one experiment, several runs side by side, finished runs kept.

Every run starts from the same initial weights, partition and budget: all of them derive from the seed
and the experiment alone. One small JSON file a run; an interrupted comparison continues where it was.
"""

import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from common.config import Experiment, build
from common.data import load_dataset
from common.errors import UserError, last_line
from common.methods import HEAD_TITLES, METHODS, Method
from server_app.engines import run_local
from server_app.journal import log, read_events

# where, not what: the data itself is fingerprinted
_MACHINE_KEYS = ("data-dir", "output-dir", "run-name", "device", "resume", "checkpoint-every", "checkpoints-kept")
_STAGES = {"final": "personal", "realigned": "realigned", "finetuned": "fine-tuned"}


@dataclass(frozen=True)
class Cell:
    """One run of the table: an experiment with its method and seed set.

    Attributes:
        experiment: what runs.
        variant: the label of a study's variant, or ''.
    """

    experiment: Experiment
    variant: str = ""

    @property
    def stem(self) -> str:
        """File stem of the result, e.g. 'fedloge-seed0' or 'fedloge-sparsity-0.8-seed0'."""
        words = [self.experiment.method, re.sub(r"[^\w.]+", "-", self.variant), f"seed{self.experiment.seed}"]
        return "-".join(word for word in words if word)

    def identity(self) -> dict[str, Any]:
        """Return what decides the result: the configuration without machine paths."""
        return {k: v for k, v in self.experiment.dump().items() if k not in _MACHINE_KEYS}


def compare(cells: Sequence[Cell], folder: Path, jobs: int) -> int:
    """Run every cell that has no result yet; return how many failed.

    Args:
        cells: the runs.
        folder: results, one `<Cell.stem>.json` each; made if absent.
        jobs: how many runs side by side, each in a process of its own.

    Raises:
        UserError: the folder cannot be made, or the data cannot be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output: cannot make {folder} ({error.strerror}); choose another") from None
    for cell in cells:
        load_dataset(cell.experiment)  # fetched and checked once, before any worker needs it
    open_cells = [cell for cell in cells if read_result(folder, cell) is None]
    log.info("%d runs, %d of them already done", len(cells), len(cells) - len(open_cells))
    failed = 0
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for cell, trouble in zip(open_cells, pool.map(lambda c: _run(c, folder), open_cells), strict=True):
            failed += trouble is not None
            log.info("%s: %s", cell.stem, trouble or "done")
    return failed


def read_result(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """Return a finished run's result, or None if there is none for exactly this configuration and data."""
    try:
        result: dict[str, Any] = json.loads((folder / f"{cell.stem}.json").read_text(encoding="utf-8"))
        # a key that did not exist yet when the result was made had its default's meaning
        made_with = Cell(build({})).identity() | result["experiment"]
        made_with = {key: value for key, value in made_with.items() if key not in _MACHINE_KEYS}
        fits = made_with == cell.identity() and result["data"] == data_fingerprint(cell.experiment)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return result if fits else None


def data_fingerprint(experiment: Experiment) -> str:
    """Return a short hash over all labels and the first and last images, so that other data are noticed."""
    dataset = load_dataset(experiment)
    digest = hashlib.sha256()
    for images in (dataset.train, dataset.test):
        ends = images.batch(np.array([0, len(images) - 1], dtype=np.int64))
        digest.update(images.labels.astype(np.int64).tobytes() + ends.numpy().tobytes())
    return digest.hexdigest()[:16]


def _run(cell: Cell, folder: Path) -> str | None:
    """Run one cell in its own process; return the last line of its error, if any."""
    run_folder = folder / "runs" / cell.stem
    shutil.rmtree(run_folder, ignore_errors=True)  # of a run that was interrupted, or had another configuration
    run_folder.mkdir(parents=True)
    program = "import sys; from server_app.compare import run_cell; run_cell(sys.argv[1])"
    values = cell.experiment.dump() | {"output-dir": str(run_folder.parent), "run-name": cell.stem}
    with (run_folder / "log.txt").open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(values)], stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        reason = last_line((run_folder / "log.txt").read_text(encoding="utf-8")) or "no output"
        return f"failed: {reason} (see {run_folder / 'log.txt'})"
    result = {
        "experiment": cell.identity(),
        "data": data_fingerprint(cell.experiment),
        "versions": json.loads((run_folder / "versions.json").read_text(encoding="utf-8")),
        "summary": json.loads((run_folder / "summary.json").read_text(encoding="utf-8")),
        "curves": curves(run_folder),
    }
    part = folder / f"{cell.stem}.part"
    part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    part.replace(folder / f"{cell.stem}.json")
    return None


def curves(run_folder: Path) -> dict[str, list[list[float]]]:
    """Return [round, accuracy] points of each generic head and of the arriving personal models, where measured."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    for event in read_events(run_folder):
        if event["event"] == "generic":
            name, server_round, accuracy = event["head"], event["round"], event["balanced_accuracy"]
        elif event["event"] == "personal" and event["stage"] == "arrival":
            name, server_round, accuracy = "personal", event["round"] - 1, event["mean"]
        else:
            continue
        if accuracy is not None:  # sites without a test image measure nothing
            found[name].append([server_round, round(accuracy, 4)])
    return dict(found)


def run_cell(values: str) -> None:
    """Run one cell with the in-process engine (the body of a comparison's child process)."""
    run_local(build(json.loads(values)))


# --- tables -----------------------------------------------------------------------------------------


def write_tables(cells: Sequence[Cell], folder: Path) -> str:
    """Write `results.md` and `results.csv` from the finished runs and return the Markdown."""
    rows = list(_rows(cells, folder))
    if not rows:
        return "no finished runs\n"
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows]
    markdown = "\n".join(lines) + "\n"
    (folder / "results.md").write_text(markdown, encoding="utf-8")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (folder / "results.csv").write_text(text.getvalue(), encoding="utf-8")
    return markdown


def _rows(cells: Sequence[Cell], folder: Path) -> Iterator[dict[str, str]]:
    for method, variant in dict.fromkeys((cell.experiment.method, cell.variant) for cell in cells):
        mine = [c for c in cells if (c.experiment.method, c.variant) == (method, variant)]
        found = [read_result(folder, cell) for cell in mine]
        results = [result for result in found if result is not None]
        heads = list(results[0]["summary"]["generic"]) if results else []
        for head in heads or [None] * bool(results):  # a method without a generic model has one row too
            yield _row(METHODS[method], variant, head, results)


def _row(method: Method, variant: str, head: str | None, results: list[dict[str, Any]]) -> dict[str, str]:
    """One generic head of one method; personal figures and cost beside the head that it is judged by only."""
    summaries = [r["summary"] for r in results]
    generic = [s["generic"][head] for s in summaries] if head else []
    own = head == method.reported_head
    row = {
        "method": f"{method.title}, {variant}" if variant else method.title,
        "head": HEAD_TITLES[head] + (" *" if own else "") if head else "–",
    }
    row["generic"] = _spread([g["balanced_accuracy"] for g in generic])
    row |= {group: _spread([g[group] for g in generic]) for group in ("many", "medium", "few")}
    for stage, title in _STAGES.items():
        row[title] = _spread([s["personal"].get(stage, {}).get("mean") for s in summaries]) if own else ""
    best = [[_best(r["curves"].get(name)) for r in results] for name in (head, "personal")]
    selected = results[0]["experiment"].get("evaluate-on", "test")  # results from before that key are of test images
    row[f"best generic, personal ({selected}-selected)"] = ", ".join(map(_spread, best)) if own else ""
    cost = [s["cost"] for s in summaries]
    row["s a round"] = f"{fmean(c['seconds'] for c in cost):.2f}" if own else ""
    row["MB a round"] = f"{fmean(c['bytes_down'] + c['bytes_up'] for c in cost) / 1e6:.1f}" if own else ""
    row["seeds"] = str(len(results))
    return row


def _best(curve: list[list[float]] | None) -> float | None:
    return max(value for _, value in curve) if curve else None


def _spread(values: Sequence[float | None]) -> str:
    """Return 'mean ± sample standard deviation' in percent over seeds, '–' for what does not exist."""
    known = [100 * v for v in values if v is not None]
    if not known:
        return "–"
    return f"{fmean(known):.1f} ± {stdev(known):.1f}" if len(known) > 1 else f"{known[0]:.1f}"
