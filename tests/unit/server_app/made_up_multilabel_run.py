"""A complete run of a made-up experiment on images with several labels, with its analysis."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from made_up_run import dump, report_with, write_run
from PIL import Image

from common.methods import METHODS
from common.wire import MULTILABEL_METRICS

LOOK = "Where the classes look"
SEVERAL = (
    "Results",
    "AUC by round",
    "Losses by round",
    "AUC by class",
    "AUC against class counts",
    "Class features",
    LOOK,
    "Frame geometry",
    "Head norms",
    "Sites",
    "Labels that occur together",
    "Configuration and cost",
)
PARTITION = {
    "missing_asked": 0.3,
    "missing": 0.34,
    "missing_by_site": [0.3, 0.38],
    "dropped": 0.071,
    "hidden": 0.165,
    "lonely_classes": [1],
}


def write_multilabel_run(folder: Path, num_classes: int = 10, num_sites: int = 8, **config: Any) -> Path:
    """Write a complete run: that of `write_run`, told in the metrics of several labels an image."""
    write_run(folder, num_classes, num_sites, **{"method": "fedloge_ml", **config})
    row = METHODS[config.get("method", "fedloge_ml")]
    federation = json.loads((folder / "federation.json").read_text())
    dump(folder, federation={**federation, "multilabel": True, "partition": PARTITION})
    dump(folder, analysis=made_up_analysis(num_classes, federation["site_names"]))
    rng = np.random.default_rng(1)
    lines = [_told(json.loads(line), rng) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    heads = ("aux_head", "frame") if row.realigns else (row.generic_head,)
    kept = [e for e in lines if e["event"] != "generic" or str(e["head"]).removesuffix("_realigned") in heads]
    kept = [e for e in kept if row.realigns or "realigned" not in (e.get("stage"), e.get("head", "").split("_")[-1])]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in kept))
    return folder


def made_up_analysis(num_classes: int, site_names: list[str]) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(num_classes, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = rng.integers(0, 60, (num_classes, num_classes))
    shown = list(range(min(num_classes, 40)))
    square = np.ix_(shown, shown)
    pairs = (pairs + pairs.T)[square]
    kinds = np.repeat(np.arange(min(num_classes, 20)), 4)
    weights = rng.dirichlet(np.ones(12), min(num_classes, 6)).reshape(-1, 3, 4)
    return {
        "label_pairs": {"classes": shown, "all": pairs.tolist(), "sites": {site_names[0]: pairs.tolist()}},
        "prototypes": {
            "classes": shown,
            "cosines": (vectors @ vectors.T)[square].tolist(),
            "mean_off_diagonal": -0.0421,
            "positives": 200,
            "at_most": 20,
            "without": 0,
            "without_attention": {"cosines": np.ones((len(shown), len(shown))).tolist(), "mean_off_diagonal": 0.987},
        },
        "points": {
            "classes": kinds.tolist(),
            "x": rng.normal(size=len(kinds)).tolist(),
            "y": rng.normal(size=len(kinds)).tolist(),
        },
        "attention": [
            {"class": c, "labels": [c], "probability": 0.875, "image": png(9, 12), "attention": map_.tolist()}
            for c, map_ in enumerate(weights)
        ],
    }


def png(width: int, height: int) -> str:
    file = io.BytesIO()
    Image.new("L", (width, height), 99).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def multilabel_report(folder: Path, *without: str) -> Any:
    """Return HTML and page; `without` are the sections that are left out, as the photographs' unless asked for."""
    asked = json.loads((folder / "config.json").read_text()).get("report-images")
    left_out = without if asked else (*without, LOOK)
    return report_with(folder, tuple(name for name in SEVERAL if name not in left_out))


def _told(event: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    if event["event"] == "generic":
        event = {k: v for k, v in event.items() if k not in ("accuracy", "balanced_accuracy")}
        event |= {name: float(rng.random()) for name in MULTILABEL_METRICS}
        event |= {"figure": "macro_auc", "undefined_auc": 1, "macro_auc": 0.8125, "calibration_error": 0.0625}
        event |= dict.fromkeys(("average_precision", "f1", "f1_tuned"), event["per_class"])
    if event["event"] == "personal":
        figures = dict.fromkeys(MULTILABEL_METRICS, 0.4375)
        for site in event["sites"].values():
            site.update(figures, macro_auc=site.pop("accuracy"), undefined_auc=2.0)
        event |= {"figure": "macro_auc", "means": figures | {"macro_auc": event["mean"]}}
    return event
