"""`results.html`: a comparison as one page, in the manner of a run's report."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from common.config import ROWS
from server_app.compare.tables import BEST, Entry, score, trained_curve
from server_app.report.charts import Series, line_chart, shorten
from server_app.report.page import details, figure, note, page, paragraph, table
from server_app.report.points import Point, dot_chart, plane_chart
from server_app.report.record import GROUPS
from server_app.report.setup import duration, size

_ELSEWHERE = ("s a round", "MB a round")  # columns of results.md that have a section of their own here, and BEST
_AUC = (
    "Images have several labels: wherever this page says accuracy, the figure is macro AUC, the mean over classes, "
    "on test images as they are, not balanced."
)
_OWN = ("method", "seed")  # keys that every comparison varies


def comparison_page(entries: Sequence[Entry], rows: Sequence[dict[str, str]]) -> str:
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
        ("Many, medium and few", _shots(shown, names)),
        ("Accuracy by round", _curves(shown, names)),
        ("Generic against personal", _planes(shown, names)),
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
    return page(f"Comparison: {first.name}", lead, sections)


def _names(entries: Sequence[Entry]) -> list[str]:
    """Short names for the charts: in a study of one method, the variant alone."""
    single = len({entry.method.name for entry in entries}) == 1
    return [entry.variant if single and entry.variant else entry.title for entry in entries]


# --- sections ---------------------------------------------------------------------------------------


def _results(entries: Sequence[Entry], rows: Sequence[dict[str, str]]) -> str:
    missing = [f"{e.title}: {', '.join(map(str, e.missing))}" for e in entries if e.missing]
    words = f"Seeds that have no result yet or failed: {'; '.join(missing)}. Rows are over the seeds that are there."
    columns = [key for key in rows[0] if key not in _ELSEWHERE and not key.startswith(BEST)]
    header = [key[:1].upper() + key[1:] for key in columns]
    chosen = next(key for key in rows[0] if key.startswith(BEST))
    best = [[row["method"], row["head"], row[chosen], row["seeds"]] for row in rows if row[chosen]]
    return "".join(
        (
            note(words) if missing else "",
            note(_AUC) if any("mAP" in row for row in rows) else "",
            paragraph(
                "Accuracy in per cent after the last round, mean ± sample standard deviation over seeds. GM, many, "
                "medium, few: the generic model's balanced accuracy on the coordinator's test images, by each head; "
                "* marks the head by which the method is judged. PM: plain accuracy of each site's personal model, as "
                "its paper makes it, on the site's own test images, mean over sites; beside it the stages: as trained, "
                "realigned, fine-tuned. A method that trains nothing personal is measured there with its generic model."
            ),
            table("Accuracy of the last round", header, [[row[key] for key in columns] for row in rows], dense=True),
            details(
                "The best of any evaluation",
                paragraph("Picked by looking at the measured images themselves, so too favourable to be reported.")
                + table(chosen[:1].upper() + chosen[1:], ["Method", "Head", "Best", "Seeds"], best),
            ),
        )
    )


def _shots(entries: Sequence[Entry], names: Sequence[str]) -> str:
    judged = [(name, entry) for name, entry in zip(names, entries, strict=True) if entry.method.reported_head]
    series = [
        Series(
            group, [(float(i), _mean([_generic(r, e, group) for r in e.found])) for i, (_, e) in enumerate(judged)], s
        )
        for s, group in enumerate(GROUPS)
    ]
    chart = dot_chart([name for name, _ in judged], series, "Accuracy on classes with many, medium and few images")
    return figure(
        chart,
        "Accuracy of the generic model, by the head that the method is judged by, on the classes with many training "
        "images (together the first 75 % of all images), a medium number (the next 20 %) and few (the last 5 %). "
        + _seeds([e for _, e in judged], [name for name, _ in judged]),
    ) or paragraph("No method here has a generic model.")


def _curves(entries: Sequence[Entry], names: Sequence[str]) -> str:
    generic = [
        Series(name, mean_curve([r["curves"].get(entry.method.reported_head) for r in entry.found]), style)
        for style, (name, entry) in enumerate(zip(names, entries, strict=True))
        if entry.method.reported_head
    ]
    personal = [
        Series(name, mean_curve([trained_curve(r, entry) for r in entry.found]), style)
        for style, (name, entry) in enumerate(zip(names, entries, strict=True))
    ]
    pairs = zip(entries, names, strict=True)
    judged = [(entry, name) for entry, name in pairs if entry.method.reported_head]
    parts = (
        _chart("Generic model", generic, "balanced accuracy", _seeds([e for e, _ in judged], [n for _, n in judged])),
        _chart("Personal models", personal, "plain accuracy, mean over sites", _seeds(entries, names)),
    )
    words = (
        "The evaluation before the first round is left out. Sites measure the model that arrives, so a personal figure "
        "is that of the sites that took part in the next round; the last one is of all sites, before any realignment "
        "or fine-tuning. Axes need not begin at zero. Point at a curve or its name to see it alone."
    )
    return "".join(parts) + paragraph(words)


def _chart(title: str, series: Sequence[Series], y_label: str, seeds: str) -> str:
    chart = line_chart(series, "round", y_label, f"{title}: accuracy by round", percent=True, close=True)
    return f"<h3>{title}</h3>" + figure(chart, seeds) if chart else ""


def _planes(entries: Sequence[Entry], names: Sequence[str]) -> str:
    parts = (
        _plane(entries, names, "After training", ("realigned", "final"), ", realigned where the method realigns"),
        _plane(entries, names, "After fine-tuning", ("finetuned",), ""),
    )
    words = (
        "The generic model of the last round (balanced accuracy, by the head that the method is judged by) against the "
        "personal models (plain accuracy, mean over sites)."
    )
    return paragraph(words) + "".join(parts)


def _plane(entries: Sequence[Entry], names: Sequence[str], title: str, stages: Sequence[str], words: str) -> str:
    points = []
    for style, (name, entry) in enumerate(zip(names, entries, strict=True)):
        x = _known([_generic(r, entry) for r in entry.found])
        y = _known([_personal(r, stages) for r in entry.found])
        if y:
            points.append(Point(name, fmean(x) if x else None, fmean(y), _deviation(x), _deviation(y), style))
    label = f"Personal models {title[:1].lower()}{title[1:]}{words}"
    chart = plane_chart(
        points, "generic, balanced accuracy", "personal, plain accuracy", label, no_x="no generic model"
    )
    if not chart:
        return ""
    caption = f"{label}. Lines: one sample standard deviation over seeds. {_seeds(entries, names)}"
    return f"<h3>{title}</h3>" + figure(chart, caption)


def _cost(entries: Sequence[Entry]) -> str:
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
    return paragraph(words) + table("Time and traffic of training", header, rows)


def _configuration(entries: Sequence[Entry]) -> str:
    cells = [cell.identity() for entry in entries for cell in entry.cells]
    rows = []
    for key, row in ROWS.items():
        default = json.loads(json.dumps(row.default, default=str))
        values = list(dict.fromkeys(json.dumps(cell[key], ensure_ascii=False) for cell in cells if key in cell))
        if values and key not in _OWN and values != [json.dumps(default)]:
            rows.append([key, ", ".join(map(_bare, values)), _bare(json.dumps(default))])
    words = "The keys that differ from their defaults; several values: the comparison varies the key."
    return paragraph(words) + table("Experiment", ["Key", "Value", "Default"], rows, ["code", "code"])


def _versions(entries: Sequence[Entry]) -> str:
    pairs = [pair for entry in entries for pair in zip(entry.cells, entry.results, strict=True)]
    runs = [(cell.stem, result.get("versions", {})) for cell, result in pairs if result]
    packages = list(dict.fromkeys(package for _, versions in runs for package in versions))
    of_runs = {package: [_short(versions.get(package)) for _, versions in runs] for package in packages}
    body = table("Versions", ["Package", "Version"], [[p, _counted(v)] for p, v in of_runs.items()], ["code"])
    differ = [package for package, versions in of_runs.items() if len(set(versions)) > 1]
    if not differ:
        return paragraph("All runs ran on the same versions; code is a fingerprint of FedNC's own.") + body
    each = [[stem, *(of_runs[package][i] for package in differ)] for i, (stem, _) in enumerate(runs)]
    every = table("Versions of each run", ["Run", *differ], each, ["code"] * len(differ))
    words = "Not all runs ran on the same versions; code is a fingerprint of FedNC's own."
    return paragraph(words) + body + details("Each run with what differs", every)


# --- metrics ----------------------------------------------------------------------------------------


def mean_curve(curves: Sequence[list[list[float]] | None]) -> list[tuple[float, float | None]]:
    """Return (round, mean accuracy) where every seed was measured, without what was there before training."""
    found: dict[float, list[float]] = defaultdict(list)
    for curve in curves:
        for server_round, accuracy in curve or ():
            found[float(server_round)].append(accuracy)
    return [(r, fmean(v)) for r, v in sorted(found.items()) if r > 0 and len(v) == len(curves)]


def _generic(result: dict[str, Any], entry: Entry, key: str = "") -> float | None:
    """A metric of the head that the method is judged by, the primary one without a key."""
    metrics = result["summary"]["generic"].get(entry.method.reported_head)
    if not metrics:
        return None
    value: float | None = metrics.get(key) if key else score(metrics)
    return value


def _personal(result: dict[str, Any], stages: Sequence[str]) -> float | None:
    """The mean over sites of the first of these stages that the run has."""
    found = [result["summary"]["personal"][stage]["mean"] for stage in stages if stage in result["summary"]["personal"]]
    return found[0] if found else None


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float | None]) -> float | None:
    known = _known(values)
    return fmean(known) if known else None


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


# --- words ------------------------------------------------------------------------------------------


def _seeds(entries: Sequence[Entry], names: Sequence[str]) -> str:
    """Say over how many seeds each name's mean is."""
    by_count: dict[int, list[str]] = defaultdict(list)
    for entry, name in zip(entries, names, strict=True):
        by_count[len(entry.found)].append(name)
    words = [f"{count} seed{'s' * (count > 1)} ({', '.join(them)})" for count, them in sorted(by_count.items())]
    if len(words) == 1:
        words = [words[0].split(" (")[0]]
    return f"Mean over {'; '.join(reversed(words))}."


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
