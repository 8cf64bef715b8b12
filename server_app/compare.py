"""Methods × seeds on one experiment, several runs side by side, finished runs kept.

Every run starts from the same initial weights, partition and budget: all of them derive from the seed
and the experiment alone. One small JSON file a run; an interrupted comparison continues where it was.
"""

import csv
import io
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from common.config import Experiment, build
from common.methods import METHODS
from server_app.engines import run_local
from server_app.journal import log, read_events

_MACHINE_KEYS = (
    "data-dir",
    "output-dir",
    "run-name",
    "device",
)  # where, not what: they do not change a result
_STAGES = ("final", "realigned", "finetuned")


@dataclass(frozen=True)
class Cell:
    """One run of the table: an experiment with its method and seed set."""

    experiment: Experiment

    @property
    def stem(self) -> str:
        """File stem of the result, e.g. 'fedloge-seed0'."""
        return f"{self.experiment.method}-seed{self.experiment.seed}"

    def identity(self) -> dict[str, Any]:
        """Return what decides the result: the configuration without machine paths."""
        return {k: v for k, v in self.experiment.dump().items() if k not in _MACHINE_KEYS}


def compare(cells: Sequence[Cell], folder: Path, jobs: int) -> None:
    """Run every cell that has no result yet and write `results.md` and `results.csv`.

    Args:
        cells: the runs.
        folder: results, one `<method>-seed<s>.json` each; made if absent.
        jobs: how many runs side by side, each in a process of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    open_cells = [cell for cell in cells if read_result(folder, cell) is None]
    log.info("%d runs, %d of them already done", len(cells), len(cells) - len(open_cells))
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for cell, error in zip(open_cells, pool.map(lambda c: _run(c, folder), open_cells), strict=True):
            log.info("%s: %s", cell.stem, error or "done")
    write_tables(cells, folder)


def read_result(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """Return a finished run's result, or None if there is none for exactly this configuration."""
    path = folder / f"{cell.stem}.json"
    if not path.is_file():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    # a key that did not exist yet when the result was made had its default's meaning
    made_with = Cell(build({})).identity() | result["experiment"]
    return result if made_with == cell.identity() else None


def _run(cell: Cell, folder: Path) -> str | None:
    """Run one cell in its own process; return the last line of its error, if any."""
    run_folder = folder / "runs" / cell.stem
    (run_folder / "metrics.jsonl").unlink(missing_ok=True)  # of a run that was interrupted
    program = "import sys; from server_app.compare import run_cell; run_cell(sys.argv[1])"
    values = cell.experiment.dump() | {"output-dir": str(run_folder.parent), "run-name": cell.stem}
    run_folder.mkdir(parents=True, exist_ok=True)
    with (run_folder / "log.txt").open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(values)],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        lines = (run_folder / "log.txt").read_text(encoding="utf-8").strip().splitlines()
        return f"failed: {lines[-1] if lines else 'no output'} (see {run_folder / 'log.txt'})"
    result = {
        "experiment": cell.identity(),
        "versions": json.loads((run_folder / "versions.json").read_text(encoding="utf-8")),
        "summary": json.loads((run_folder / "summary.json").read_text(encoding="utf-8")),
        "curves": curves(run_folder),
    }
    part = folder / f"{cell.stem}.part"
    part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    part.replace(folder / f"{cell.stem}.json")
    return None


def curves(run_folder: Path) -> dict[str, list[list[float]]]:
    """Return [round, accuracy] points of each generic head and of the arriving personal models."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    for event in read_events(run_folder):
        if event["event"] == "generic":
            found[event["head"]].append([event["round"], round(event["balanced_accuracy"], 4)])
        elif event["event"] == "personal" and event["stage"] == "arrival":
            found["personal"].append([event["round"] - 1, round(event["mean"], 4)])
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
    for method in dict.fromkeys(cell.experiment.method for cell in cells):
        results = [read_result(folder, c) for c in cells if c.experiment.method == method]
        summaries = [r["summary"] for r in results if r is not None]
        if not summaries:
            continue
        for head in summaries[0]["generic"]:
            yield _row(METHODS[method].title, head, summaries)


def _row(title: str, head: str, summaries: list[dict[str, Any]]) -> dict[str, str]:
    """One generic head of one method; personal figures beside the method's own head only."""
    generic = [s["generic"][head] for s in summaries]
    own = head == summaries[0]["headline"]["head"]
    names = {"aux_head": "ψ", "aux_head_realigned": "ψ realigned", "frame": "frame"}
    row = {"method": title, "generic head": names[head] + (" *" if own else "")}
    row["generic"] = _spread([g["balanced_accuracy"] for g in generic])
    row |= {group: _spread([g[group] for g in generic]) for group in ("many", "medium", "few")}
    for stage in _STAGES:
        figures = [s["personal"].get(stage) for s in summaries]
        title = {"final": "personal", "realigned": "realigned", "finetuned": "fine-tuned"}[stage]
        row[title] = _spread([f["mean"] for f in figures if f]) if own else ""
    row["best generic / personal (test-selected)"] = (
        " / ".join(_spread([s["best"][k] for s in summaries]) for k in ("generic", "personal")) if own else ""
    )
    cost: Mapping[str, float] = summaries[0]["cost"]
    row["s a round"] = f"{fmean(s['cost']['seconds'] for s in summaries):.2f}" if own else ""
    row["MB a round"] = f"{(cost['bytes_down'] + cost['bytes_up']) / 1e6:.1f}" if own else ""
    row["seeds"] = str(len(summaries))
    return row


def _spread(values: Sequence[float | None]) -> str:
    """Return 'mean ± population sd' in percent over seeds."""
    known = [v for v in values if v is not None]
    if not known:
        return "–"
    return f"{100 * fmean(known):.1f} ± {100 * pstdev(known):.1f}"
