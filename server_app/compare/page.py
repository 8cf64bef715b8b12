"""`results.html`: a comparison as one page, in the manner of a run's report."""

import json
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from common.config import ROWS
from server_app.compare.charts import curves, planes, shots
from server_app.compare.tables import BEST, Entry
from server_app.report.blocks import Block, Details, Note, Paragraph, Table
from server_app.report.charts import shorten
from server_app.report.page import Page
from server_app.report.setup import duration, size

_ELSEWHERE = ("s a round", "MB a round")  # columns of results.md that have a section of their own here, and BEST
_AUC = (
    "Images have several labels: wherever this page says accuracy, the metric is macro AUC, the mean over classes, "
    "on test images as they are, not balanced."
)
_OWN = ("method", "seed")  # keys that every comparison varies


def comparison_page(entries: Sequence[Entry], rows: Sequence[dict[str, str]]) -> Page:
    """Return the page.

    Args:
        entries: the methods or variants, with what their runs gave.
        rows: the table of results.md.
    """
    first = entries[0].cells[0].experiment
    shown = [entry for entry in entries if entry.found]
    names = _names(shown)
    sections = (
        ("Results", _results(entries, rows)),
        ("Many, medium and few", shots(shown, names)),
        ("Accuracy by round", curves(shown, names)),
        ("Generic against personal", planes(shown, names)),
        ("Cost", _cost(shown)),
        ("Configuration", _configuration(entries)),
        ("Versions", _versions(shown)),
    )
    seeds = dict.fromkeys(str(cell.experiment.run.seed) for entry in entries for cell in entry.cells)
    done, runs = sum(len(entry.found) for entry in entries), sum(len(entry.cells) for entry in entries)
    facts = {
        "Data set": first.data.dataset,
        "sites": first.sites.sites if first.sites.partition != "natural" else "natural",
        "rounds": first.rounds.rounds,
        "methods": len({entry.method.name for entry in entries}),
        "variants": len({entry.variant for entry in entries if entry.variant}),
        "seeds": ", ".join(seeds),
        "runs": f"{done} of {runs}",
    }
    lead = "; ".join(f"{key}: {value}" for key, value in facts.items() if value) + "."
    return Page(f"Comparison: {first.name}", lead, sections)


def _names(entries: Sequence[Entry]) -> list[str]:
    """Short names for the charts: in a study of one method, the variant alone."""
    single = len({entry.method.name for entry in entries}) == 1
    return [entry.variant if single and entry.variant else entry.title for entry in entries]


def _results(entries: Sequence[Entry], rows: Sequence[dict[str, str]]) -> list[Block]:
    missing = [f"{e.title}: {', '.join(map(str, e.missing))}" for e in entries if e.missing]
    words = f"Seeds that have no result yet or failed: {'; '.join(missing)}. Rows are over the seeds that are there."
    columns = [key for key in rows[0] if key not in _ELSEWHERE and not key.startswith(BEST)]
    header = [key[:1].upper() + key[1:] for key in columns]
    chosen = next(key for key in rows[0] if key.startswith(BEST))
    best = [[row["method"], row["head"], row[chosen], row["seeds"]] for row in rows if row[chosen]]
    return [
        *([Note(words)] if missing else []),
        *([Note(_AUC)] if any("mAP" in row for row in rows) else []),
        Paragraph(
            "Accuracy in per cent after the last round, mean ± sample standard deviation over seeds. GM, many, "
            "medium, few: the generic model's balanced accuracy on the coordinator's test images, by each head; "
            "* marks the head by which the method is judged. PM: plain accuracy of each site's personal model, as "
            "its paper makes it, on the site's own test images, mean over sites; beside it the stages: as trained, "
            "realigned, fine-tuned. A method that trains nothing personal is measured there with its generic model."
        ),
        Table("Accuracy of the last round", header, [[row[key] for key in columns] for row in rows], dense=True),
        Details(
            "The best of any evaluation",
            [
                Paragraph("Picked by looking at the measured images themselves, so too favourable to be reported."),
                Table(chosen[:1].upper() + chosen[1:], ["Method", "Head", "Best", "Seeds"], best),
            ],
        ),
    ]


def _cost(entries: Sequence[Entry]) -> list[Block]:
    rows = []
    for entry in entries:
        costs = [result["summary"]["cost"] for result in entry.found]
        mean = {key: fmean(cost[key] for cost in costs) for key in ("seconds", "bytes_down", "bytes_up")}
        rounds = entry.cells[0].experiment.rounds.rounds
        traffic = [size(mean["bytes_down"]), size(mean["bytes_up"])]
        total = size(rounds * (mean["bytes_down"] + mean["bytes_up"]))
        rows.append([entry.title, duration(mean["seconds"]), *traffic, duration(rounds * mean["seconds"]), total])
    header = ["Method", "Time a round", "Sent a round", "Received a round", "Time, all rounds", "Traffic, all rounds"]
    words = (
        "Mean over rounds and seeds; bytes are those of all sites together. Times of runs that shared a machine, or "
        "ran on different ones, are not comparable."
    )
    return [Paragraph(words), Table("Time and traffic of training", header, rows)]


def _configuration(entries: Sequence[Entry]) -> list[Block]:
    cells = [cell.identity() for entry in entries for cell in entry.cells]
    rows = []
    for key, row in ROWS.items():
        default = json.loads(json.dumps(row.default, default=str))
        values = list(dict.fromkeys(json.dumps(cell[key], ensure_ascii=False) for cell in cells if key in cell))
        if values and key not in _OWN and values != [json.dumps(default)]:
            rows.append([key, ", ".join(map(_bare, values)), _bare(json.dumps(default))])
    words = "The keys that differ from their defaults; several values: the comparison varies the key."
    return [Paragraph(words), Table("Experiment", ["Key", "Value", "Default"], rows, ["code", "code"])]


def _versions(entries: Sequence[Entry]) -> list[Block]:
    pairs = [pair for entry in entries for pair in zip(entry.cells, entry.results, strict=True)]
    runs = [(cell.stem, result.get("versions", {})) for cell, result in pairs if result]
    packages = list(dict.fromkeys(package for _, versions in runs for package in versions))
    of_runs = {package: [_short(versions.get(package)) for _, versions in runs] for package in packages}
    body = Table("Versions", ["Package", "Version"], [[p, _counted(v)] for p, v in of_runs.items()], ["code"])
    differ = [package for package, versions in of_runs.items() if len(set(versions)) > 1]
    if not differ:
        return [Paragraph("All runs ran on the same versions; code is a fingerprint of FedNC's own."), body]
    each = [[stem, *(of_runs[package][i] for package in differ)] for i, (stem, _) in enumerate(runs)]
    every = Table("Versions of each run", ["Run", *differ], each, ["code"] * len(differ))
    words = "Not all runs ran on the same versions; code is a fingerprint of FedNC's own."
    return [Paragraph(words), body, Details("Each run with what differs", [every])]


def _counted(values: Sequence[str]) -> str:
    """The value that all share, or each with the number of runs that have it."""
    counts = Counter(values)
    if len(counts) == 1:
        return values[0]
    return ", ".join(f"{value} ({count} run{'s' * (count > 1)})" for value, count in counts.items())


def _short(version: str | None) -> str:
    """A version; of a fingerprint, its beginning."""
    return "not recorded" if version is None else shorten(version, 16)


def _bare(value: str) -> str:
    """A JSON value without the quotes of a string."""
    return value.strip('"')
