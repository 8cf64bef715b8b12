"""The table of a comparison, from its finished runs: one row a method (and variant) and generic head."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from common.markup import csv_text, escape_markdown
from common.methods import HEAD_TITLES, METHODS, Method
from common.metrics import further_metrics
from common.multilabel_table import short_titles
from common.wire import STAGES
from server_app.compare.cells import Cell
from server_app.compare.lines import config_hash
from server_app.compare.store import Store
from server_app.compare.tidy import facts_of, models_of

# metrics of several labels an image beside macro AUC, and those that have a table of their own
MULTILABEL_COLUMNS, FURTHER = short_titles("main"), short_titles("further")
UNDEFINED, BY_SHOT = short_titles("count"), short_titles("by shot")  # numbers, no shares; of personal models
GENERIC = {"generic": "GM", "many": "many", "medium": "medium", "few": "few"}
BALANCED = "PM balanced"
PERSONAL = {
    "personal": "PM",
    "personal_balanced": BALANCED,
    "final": "trained",
    "realigned": "realigned",
    "finetuned": "fine-tuned",
}
HEADLINE = ("GM", "few", "mAP", "F1", "F1 tuned", "PM", BALANCED, "PM mAP", "PM F1 tuned", "prototypes' cosine")
BEST = "best GM, personal as trained"

Metrics = dict[str, list[float | None]]


@dataclass(frozen=True)
class Entry:
    """One method of a comparison, or one variant of it in a study.

    Attributes:
        cells: its runs, a seed each.
        results: what they gave, in the same order; None where a run is missing.
    """

    cells: tuple[Cell, ...]
    results: tuple[dict[str, Any] | None, ...]

    @property
    def method(self) -> Method:
        """The method's row."""
        return METHODS[self.cells[0].experiment.method]

    @property
    def variant(self) -> str:
        """The study's variant, or ''."""
        return self.cells[0].variant

    @property
    def title(self) -> str:
        """The method as papers write it, with the variant."""
        return f"{self.method.title}, {self.variant}" if self.variant else self.method.title

    @property
    def measured_on(self) -> str:
        """'test' or 'validation': which images the metrics are of."""
        return str(self.cells[0].experiment.data.evaluate_on)

    @property
    def found(self) -> list[dict[str, Any]]:
        """The results that exist."""
        return [result for result in self.results if result is not None]

    @property
    def missing(self) -> list[int]:
        """Seeds without a result."""
        return [c.experiment.run.seed for c, r in zip(self.cells, self.results, strict=True) if r is None]


def read_entries(cells: Sequence[Cell], folder: Path) -> list[Entry]:
    """Return the finished runs by method and variant, in the order of the cells."""
    entries, store = [], Store(folder)
    for method, variant in dict.fromkeys((cell.experiment.method, cell.variant) for cell in cells):
        mine = tuple(c for c in cells if (c.experiment.method, c.variant) == (method, variant))
        found = [store.find(cell) for cell in mine]
        entries.append(Entry(mine, tuple(run.result if run else None for run in found)))
    return entries


def rows_of(entries: Sequence[Entry]) -> Iterator[dict[str, str]]:
    """Yield the table: one row a method and generic head."""
    rows = [_row(entry, head) for entry, head in _heads(entries)]
    unknown = {BALANCED} if all(row[BALANCED] in ("", "–") for row in rows) else set()  # to earlier versions
    yield from ({title: text for title, text in row.items() if title not in unknown} for row in rows)


def headline_rows(rows: Sequence[Mapping[str, str]]) -> Iterator[dict[str, str]]:
    """Yield one row a method (and variant), of the head that it is judged by, with the most important metrics."""
    for row in rows:
        if row["head"].endswith("*") or row["head"] == "–":
            yield {title: row[title] for title in ("method", *HEADLINE) if title in row}


def further_rows(entries: Sequence[Entry]) -> Iterator[dict[str, str]]:
    """Yield the other metrics of several labels an image, of the head and the stage judged by; else nothing."""
    for entry, head in _heads(entries):
        metrics = metrics_of(entry, head) if head == entry.method.reported_head else {}
        if "micro_auc" not in metrics:
            continue
        row = {"method": entry.title}
        row |= {f"GM {title}": spread(metrics[key]) for key, title in FURTHER.items()}
        row |= {f"GM {title}": _average(metrics, key, 1) or "–" for key, title in UNDEFINED.items()}
        row |= {f"PM {title}": spread(metrics[f"personal_{key}"]) for key, title in (FURTHER | BY_SHOT).items()}
        row |= {f"PM {title}": _average(metrics, f"personal_{key}", 1) or "–" for key, title in UNDEFINED.items()}
        yield row


def as_csv(entries: Sequence[Entry]) -> str:
    """Return a line a run and model as comma-separated values: shares of 1, seconds and bytes as numbers.

    `server_app/compare/README.md` says what each column is.
    """
    lines = [line for entry in entries for line in _csv_lines(entry)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _csv_lines(entry: Entry) -> Iterator[dict[str, Any]]:
    for cell, result in zip(entry.cells, entry.results, strict=True):
        if result is None:
            continue
        config = config_hash(result["experiment"], result["data"])
        facts = {"run": cell.stem, "config": config, **facts_of(cell.stem, csv_text(entry.variant), cell.experiment)}
        for about, metrics in models_of(entry.method, result["summary"]):
            line = {**facts, **about, "judged": int(about["judged"]), **metrics}
            if about["model"] == "run":
                yield line | {"prototype_cosine": result.get("prototype_cosine")}
            elif about["stage"] in ("", "trained"):  # what is measured while it trains
                curve = trained_curve(result, entry) if about["stage"] else result["curves"].get(about["head"])
                yield line | {"best": _best(curve)}
            else:
                yield line


def metrics_of(entry: Entry, head: str | None) -> Metrics:
    """Return every metric of one generic head by seed; personal ones and cost beside the head judged by only."""
    results, method = entry.found, entry.method
    summaries = [r["summary"] for r in results]
    generic = [s["generic"][head] for s in summaries] if head else [{}] * len(results)
    stages = [s["personal"] for s in summaries]
    found: Metrics = {"generic": [score(g) for g in generic]}
    found |= {group: [g.get(group) for g in generic] for group in ("many", "medium", "few")}
    multilabel = any("macro_auc" in metrics for metrics in (*generic, *map(_means, stages)))
    if multilabel:  # labels an image
        found |= {key: [g.get(key) for g in generic] for key in MULTILABEL_COLUMNS | FURTHER | UNDEFINED}
    else:
        found |= {key: [g.get(key) for g in generic] for key in further_metrics()}
    if head != method.reported_head:
        return found
    found["personal"] = [personal_score(s, method) for s in stages]
    found |= {stage: [s.get(stage, {}).get("mean") for s in stages] for stage in STAGES}
    found["personal_balanced"] = [_judged(s, method).get("means", {}).get("balanced_accuracy") for s in stages]
    if multilabel:
        keys = MULTILABEL_COLUMNS | FURTHER | UNDEFINED | BY_SHOT
        found |= {f"personal_{key}": [_means(s).get(key) for s in stages] for key in keys}
        found["prototypes"] = [r.get("prototype_cosine") for r in results]
    found["best_generic"] = [_best(r["curves"].get(head)) for r in results]
    found["best_personal"] = [_best(trained_curve(r, entry)) for r in results]
    cost = [s["cost"] for s in summaries]
    found["seconds"] = [c["seconds"] for c in cost]
    found["megabytes"] = [(c["bytes_down"] + c["bytes_up"]) / 1e6 for c in cost]
    return found


def personal_score(stages: Mapping[str, Any], method: Method) -> float | None:
    """Return the mean over sites of the paper's personal model; without that step, of the model as trained."""
    stage = _judged(stages, method)
    value: float | None = stage.get("mean")
    return value


def _judged(stages: Mapping[str, Any], method: Method) -> dict[str, Any]:
    return dict(stages.get(method.personal_stage) or stages.get("final") or {})


def trained_curve(result: Mapping[str, Any], entry: Entry) -> list[list[float]]:
    """Return (round, score) of the arriving personal models, and after them all sites' after the last round."""
    curve: list[list[float]] = list(result["curves"].get("personal", []))
    last = result["summary"]["personal"].get("final", {}).get("mean")
    return curve if last is None else [*curve, [entry.cells[0].experiment.rounds.rounds, last]]


def _heads(entries: Sequence[Entry]) -> Iterator[tuple[Entry, str | None]]:
    for entry in entries:
        heads = list(entry.found[0]["summary"]["generic"]) if entry.found else []
        for head in heads or [None] * bool(entry.found):  # a method without a generic model has one row too
            yield entry, head


def _row(entry: Entry, head: str | None) -> dict[str, str]:
    metrics = metrics_of(entry, head)
    own = head == entry.method.reported_head
    row = {"method": entry.title, "head": HEAD_TITLES[head] + (" *" if own else "") if head else "–"}
    multilabel = "mean_ap" in metrics

    def add(keys: Mapping[str, str]) -> None:
        row.update({title: spread(metrics[key]) if key in metrics else "" for key, title in keys.items()})

    add(GENERIC | (MULTILABEL_COLUMNS if multilabel else further_metrics()))
    add(
        PERSONAL
        | ({f"personal_{key}": f"PM {title}" for key, title in MULTILABEL_COLUMNS.items()} if multilabel else {})
    )
    best = ", ".join(spread(metrics[key]) for key in ("best_generic", "best_personal")) if own else ""
    row[f"{BEST} ({entry.measured_on}-selected)"] = best
    if multilabel:
        row["prototypes' cosine"] = _average(metrics, "prototypes", 2)
    row["s a round"] = _average(metrics, "seconds", 2)
    row["MB a round"] = _average(metrics, "megabytes", 1)
    row["seeds"] = str(len(entry.found))
    return row


def score(generic: Mapping[str, Any]) -> float | None:
    """Return a generic head's primary metric; results from before several labels name it by itself."""
    value = generic["score"] if "score" in generic else generic.get("balanced_accuracy")
    return None if value is None else float(value)


def _means(stages: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of several labels of the last personal stage."""
    return dict(list(stages.values())[-1].get("means", {})) if stages else {}


def as_markdown(rows: Sequence[dict[str, str]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(map(escape_markdown, row.values())) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _best(curve: list[list[float]] | None) -> float | None:
    return max(value for _, value in curve) if curve else None


def _average(metrics: Metrics, key: str, digits: int) -> str:
    known = [value for value in metrics.get(key, ()) if value is not None]
    return f"{fmean(known):.{digits}f}" if known else ""


def spread(values: Sequence[float | None]) -> str:
    """Return 'mean ± sample standard deviation' in percent over seeds, '–' for what does not exist."""
    known = [100 * v for v in values if v is not None]
    if not known:
        return "–"
    return f"{fmean(known):.1f} ± {stdev(known):.1f}" if len(known) > 1 else f"{known[0]:.1f}"
