"""The table of a comparison, from its finished runs: one row a method (and variant) and generic head."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from common.methods import HEAD_TITLES, METHODS, Method
from server_app.compare import Cell, read_result

# figures of several labels an image beside macro AUC
SEVERAL = {"mean_ap": "mAP", "macro_f1": "F1", "macro_f1_tuned": "F1 tuned"}
STAGES = {"final": "personal", "realigned": "realigned", "finetuned": "fine-tuned"}
BEST = "best generic, personal"


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
        """'test' or 'validation': which images the figures are of."""
        return str(self.cells[0].experiment.evaluate_on)

    @property
    def found(self) -> list[dict[str, Any]]:
        """The results that exist."""
        return [result for result in self.results if result is not None]

    @property
    def missing(self) -> list[int]:
        """Seeds without a result."""
        return [c.experiment.seed for c, r in zip(self.cells, self.results, strict=True) if r is None]


def read_entries(cells: Sequence[Cell], folder: Path) -> list[Entry]:
    """Return the finished runs by method and variant, in the order of the cells."""
    entries = []
    for method, variant in dict.fromkeys((cell.experiment.method, cell.variant) for cell in cells):
        mine = tuple(c for c in cells if (c.experiment.method, c.variant) == (method, variant))
        entries.append(Entry(mine, tuple(read_result(folder, cell) for cell in mine)))
    return entries


def rows_of(entries: Sequence[Entry]) -> Iterator[dict[str, str]]:
    """Yield the table: one row a method and generic head."""
    for entry in entries:
        heads = list(entry.found[0]["summary"]["generic"]) if entry.found else []
        for head in heads or [None] * bool(entry.found):  # a method without a generic model has one row too
            yield _row(entry, head)


def _row(entry: Entry, head: str | None) -> dict[str, str]:
    """One generic head of one method; personal figures and cost beside the head that it is judged by only."""
    results = entry.found
    summaries = [r["summary"] for r in results]
    generic = [s["generic"][head] for s in summaries] if head else []
    own = head == entry.method.reported_head
    row = {"method": entry.title, "head": HEAD_TITLES[head] + (" *" if own else "") if head else "–"}
    row["generic"] = spread([score(g) for g in generic])
    row |= {group: spread([g[group] for g in generic]) for group in ("many", "medium", "few")}
    several = any("macro_auc" in g for g in generic) or any(map(_many, _last_stages(summaries)))
    if several:  # labels an image
        row |= {title: spread([g[name] for g in generic]) for name, title in SEVERAL.items()}
    for stage, title in STAGES.items():
        row[title] = spread([s["personal"].get(stage, {}).get("mean") for s in summaries]) if own else ""
    if several:
        last = [stage["means"] for stage in _last_stages(summaries)]
        row |= {
            f"personal {title}": spread([m.get(name) for m in last]) if own else "" for name, title in SEVERAL.items()
        }
    best = [[_best(r["curves"].get(name)) for r in results] for name in (head, "personal")]
    row[f"{BEST} ({entry.measured_on}-selected)"] = ", ".join(map(spread, best)) if own else ""
    cost = [s["cost"] for s in summaries]
    row["s a round"] = f"{fmean(c['seconds'] for c in cost):.2f}" if own else ""
    row["MB a round"] = f"{fmean(c['bytes_down'] + c['bytes_up'] for c in cost) / 1e6:.1f}" if own else ""
    row["seeds"] = str(len(results))
    return row


def score(generic: Mapping[str, Any]) -> float | None:
    """Return a generic head's primary figure; results from before several labels name it by itself."""
    value = generic["score"] if "score" in generic else generic["balanced_accuracy"]
    return None if value is None else float(value)


def _last_stages(summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the last personal stage of each run that has one."""
    return [list(s["personal"].values())[-1] for s in summaries if s["personal"]]


def _many(stage: Mapping[str, Any]) -> bool:
    return "macro_auc" in stage.get("means", {})


def as_markdown(rows: Sequence[dict[str, str]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def as_csv(rows: Sequence[dict[str, str]]) -> str:
    """Return the rows as comma-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _best(curve: list[list[float]] | None) -> float | None:
    return max(value for _, value in curve) if curve else None


def spread(values: Sequence[float | None]) -> str:
    """Return 'mean ± sample standard deviation' in percent over seeds, '–' for what does not exist."""
    known = [100 * v for v in values if v is not None]
    if not known:
        return "–"
    return f"{fmean(known):.1f} ± {stdev(known):.1f}" if len(known) > 1 else f"{known[0]:.1f}"
