"""A complete run of a made-up experiment, and its report read back."""

import json
import math
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from common.config import build
from server_app.frames.build import FrameQuality
from server_app.report import write_report

SECTIONS = (
    "Results",
    "Accuracy by round",
    "Losses by round",
    "Accuracy by class",
    "Confusion",
    "Frame geometry",
    "Head norms",
    "Sites",
    "Configuration and cost",
)
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Collects tags, text and attributes, and fails on tags that do not balance."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tooltips: list[str] = []
        self.headings: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        here = self.open[-1] if self.open else ""
        if here == "h2":
            self.headings.append(data)
        if here == "title":
            self.tooltips.append(data)
        elif here != "style":
            self.text += data + " "


def write_run(folder: Path, num_classes: int = 10, num_sites: int = 8, rounds: int = 12, **config: Any) -> Path:
    """Write a complete run of a made-up FedLoGe experiment into the folder."""
    rng = np.random.default_rng(0)
    names = [f"site-{k:02d}" for k in range(num_sites)]
    totals = np.geomspace(500, 5, num_classes).astype(int)
    shares = rng.dirichlet(np.full(num_sites, 0.5), num_classes)
    counts = np.array([rng.multinomial(n, p) for n, p in zip(totals, shares, strict=True)]).T
    cut = (num_classes // 5, num_classes // 2)
    federation = {
        "classes": [f"kind {c}" for c in range(num_classes)],
        "site_names": names,
        "train_counts": counts.tolist(),
        "test_counts": (counts // 5).tolist(),
        "groups": {
            "many": list(range(cut[0])),
            "medium": list(range(*cut)),
            "few": list(range(cut[1], num_classes)),
        },
        "simulated": True,
        "num_test": 2000,
    }
    experiment = build({"name": "synthetic", "rounds": rounds, "seed": 7, **config}).dump()
    frame = asdict(FrameQuality(1.0, 1e-14, 96.38, 2e-9, 96.37, 96.39, 0.6, 0.2, "projection"))
    dump(folder, config=experiment, versions={"torch": "2.15"}, frame=frame, federation=federation)
    events = [event for r in range(1, rounds + 1) for event in _round(rng, r, names, num_classes)]
    events += _end(rng, rounds, names, totals)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return folder


def dump(folder: Path, **files: Any) -> None:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")


def _round(rng: np.random.Generator, r: int, names: list[str], num_classes: int) -> list[dict[str, Any]]:
    loss = {"backbone": 3 / r, "aux_head": 2 / r + 0.1, "personal_head": 1 / r + 0.05}
    traffic = {"seconds": 4 + rng.random(), "bytes_down": 1_200_000, "bytes_up": 1_100_000}
    done = {
        "event": "round",
        "round": r,
        "answered": len(names),
        "asked": len(names),
        "loss": loss,
        "images": 25 * len(names),
        "weights": dict.fromkeys(names, 25),
        **traffic,
    }
    level = 0.6 * (1 - math.exp(-r / 4))
    return [
        done,
        _generic(rng, r, "training", "aux_head", level, num_classes, 0.5),
        _generic(rng, r, "training", "frame", level * 0.9, num_classes, 0.4),
        _personal(rng, r, "arrival", level + 0.15, names),
    ]


def _end(rng: np.random.Generator, r: int, names: list[str], totals: Any) -> list[dict[str, Any]]:
    heads = {"aux_head": totals**0.3, "aux_head_realigned": totals**0.05, "frame": totals**0.0}
    return [
        _generic(rng, r, "final", "aux_head", 0.58, len(totals), 0.5),
        _generic(rng, r, "final", "frame", 0.52, len(totals), 0.4),
        _generic(rng, r, "final", "aux_head_realigned", 0.62, len(totals), 0.2),
        *(
            _personal(rng, r, s, m, names, len(totals))
            for s, m in (("final", 0.74), ("realigned", 0.78), ("finetuned", 0.8))
        ),
        {"event": "norms", "round": r, "heads": {name: norms.tolist() for name, norms in heads.items()}},
        {"event": "summary", "rounds": r},
    ]


def _generic(
    rng: np.random.Generator, r: int, stage: str, head: str, mean: float, num_classes: int, slope: float
) -> dict[str, Any]:
    noise = rng.normal(0, 0.08, num_classes)
    values = np.clip(mean + slope * (0.5 - np.arange(num_classes) / num_classes) + noise, 0, 1)
    figures = {
        "accuracy": mean,
        "balanced_accuracy": mean,
        "many": mean + 0.2,
        "medium": mean,
        "few": mean - 0.2,
    }
    told = {"confusion": _confusion(values)} if stage == "final" else {}
    return {
        "event": "generic",
        "round": r,
        "stage": stage,
        "head": head,
        **figures,
        "per_class": [None, *values.tolist()[1:]],
        **told,
    }


def _confusion(values: Any) -> list[list[int]]:
    """20 test images of every class but the first; those that are not right are taken for the class before."""
    right = np.round(20 * values[1:]).astype(int).tolist()
    rows = [[[c, c - 1, 20 - n], [c, c, n]] for c, n in enumerate(right, 1)]
    return [row for pair in rows for row in pair if row[2]]


def _personal(
    rng: np.random.Generator, r: int, stage: str, mean: float, names: list[str], num_classes: int = 0
) -> dict[str, Any]:
    """One stage's metrics of the sites; where `num_classes` is given those of each class too, the first's unknown."""
    values = np.clip(rng.normal(mean, 0.08, len(names)), 0, 1)
    sites = {n: {"accuracy": float(v), "num_test": 40 + k} for k, (n, v) in enumerate(zip(names, values, strict=True))}
    figures = {"mean": float(values.mean()), "std": float(values.std()), "worst": float(values.min())}
    worst = names[int(values.argmin())]
    told: dict[str, Any] = {}
    if num_classes:
        falling = {n: np.linspace(1, v, num_classes - 1).tolist() for n, v in zip(names, values, strict=True)}
        told["per_class"] = {name: [None, *metrics] for name, metrics in falling.items()}
    return {"event": "personal", "round": r, "stage": stage, **figures, "worst_site": worst, "sites": sites, **told}


def keep_events(folder: Path, keep: Any) -> None:
    """Rewrite metrics.jsonl with the events that `keep` accepts."""
    path = folder / "metrics.jsonl"
    lines = [line for line in path.read_text().splitlines() if keep(json.loads(line))]
    path.write_text("\n".join(lines))


def report(folder: Path, *without: str) -> tuple[str, Page]:
    """Write and read back a report, which has every section but those."""
    return report_with(folder, tuple(name for name in SECTIONS if name not in without))


def report_with(folder: Path, sections: tuple[str, ...]) -> tuple[str, Page]:
    html = write_report(folder).read_text(encoding="utf-8")
    page = Page(html)
    assert [heading.split(". ", 1)[1] for heading in page.headings] == list(sections)
    assert not re.search(r"\bnan\b|\binf\b|Infinity", " ".join([page.text, html.split("</style>")[1]]))
    return html, page
