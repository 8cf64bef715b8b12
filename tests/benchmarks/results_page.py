"""The page of all results, from the committed tables and the paragraphs beside them, and the README's short table.

python -m tests.benchmarks.results_page > tests/benchmarks/results/README.md
python -m tests.benchmarks.results_page --short
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

from common.config import build
from common.methods import METHODS
from server_app.compare.cells import Cell
from server_app.compare.lines import StoredRun
from server_app.compare.store import Store
from server_app.compare.tables import Entry, as_csv, as_markdown, further_rows, headline_rows, rows_of

RESULTS = Path(__file__).parent / "results"
NOTES = (
    *("introduction", "fashion_mnist_lt_small", "cifar10_lt_small", "ham10000_sites", "ham10000_pretrained"),
    *("ham10000_one_round", "ham10000_head_start", "one_label"),
    *("multilabel", "ham10000_composites", "voc_animals", "digits_lt_wire"),
)
TUNING = ("fedloge-norm-rate", "fedavg-rate", "fedetf-rate")
HEADS = ("ψ", "ψ realigned", "frame")
STAGES = ("trained", "realigned", "fine-tuned")
SHORT = {
    "Fashion-MNIST": ("fashion_mnist_lt_small",),
    "CIFAR-10 (JPEG)": ("cifar10_lt_small",),
    "4 hospitals": ("ham10000_pretrained", "ham10000_one_round"),
}
SHORT_METHODS = ("fedavg", "fedavg_la", "fedrep", "ditto", "fedrod", "fedetf", "creff", "fedloge", "fedridge")


def page() -> str:
    """Return the page: the notes, with a table in the place of each line that names one."""
    text = "\n".join((RESULTS / "notes" / f"{note}.md").read_text(encoding="utf-8") for note in NOTES)
    text = text.replace("<!-- tuning -->\n", tuning())
    return re.sub(r"<!-- (\S+\.md) -->\n", lambda line: (RESULTS / line[1]).read_text(encoding="utf-8"), text)


def entries(folder: Path) -> list[Entry]:
    """Return the rows' runs in the order of a folder's table, read from its `runs.jsonl`."""
    runs: dict[str, list[StoredRun]] = defaultdict(list)
    for run in Store(folder).runs:
        runs[", ".join(filter(None, (METHODS[run.method].title, run.variant)))].append(run)
    table = (folder / "results.md").read_text(encoding="utf-8")
    titles = [title for title in dict.fromkeys(re.findall(r"^\| (\S.*?) \|", table, re.M)) if title != "method"]
    return [_entry(sorted(runs[title], key=lambda run: run.seed), folder.name) for title in titles]


def _entry(runs: list[StoredRun], source: str) -> Entry:
    cells = (Cell(build(run.result["experiment"], source), run.variant) for run in runs)
    return Entry(tuple(cells), tuple(run.result for run in runs))


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of a folder as its runs give them: `headline.md`, the tables of `results.md`, `results.csv`."""
    of = entries(folder)
    rows, further = list(rows_of(of)), list(further_rows(of))
    return {
        "headline.md": as_markdown(list(headline_rows(rows))),
        "results.md": as_markdown(rows) + ("\n" + as_markdown(further) if further else ""),
        "results.csv": as_csv(of),
    }


def tuning() -> str:
    """Return the table of the runs on validation images: each generic head, and each stage of the personal models."""
    rows: dict[str, dict[str, str]] = {}
    for folder in TUNING:
        for row in rows_of(entries(RESULTS / "tuning" / folder)):
            own = rows.setdefault(
                row["method"], dict.fromkeys(("method", *HEADS, *STAGES), "–") | {"method": row["method"]}
            )
            own[row["head"].removesuffix(" *")] = row["GM"]
            own |= {stage: row[stage] for stage in STAGES if row[stage]}
    return as_markdown(list(rows.values()))


def short() -> str:
    """Return the README's table: GM and PM of some methods on three data sets."""
    rows = {METHODS[method].title: {"method": METHODS[method].title} for method in SHORT_METHODS}
    for title, folders in SHORT.items():
        for row in (row for folder in folders for row in rows_of(entries(RESULTS / folder))):
            if row["method"] in rows and (row["head"].endswith("*") or row["head"] == "–"):
                rows[row["method"]] |= {f"{title} {model}": row[model] for model in ("GM", "PM")}
    titles = list(dict.fromkeys(title for row in rows.values() for title in row))
    return as_markdown([{title: row.get(title, "–") for title in titles} for row in rows.values()])


if __name__ == "__main__":
    sys.stdout.write(short() if sys.argv[1:] == ["--short"] else page())
