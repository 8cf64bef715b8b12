"""The metrics that a run ends with, read back from its journal."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.methods import HEAD_TITLES, METHODS
from common.metrics import METRICS
from common.wire import MULTILABEL_METRICS
from server_app.run.journal import percent, read_events
from server_app.run.metrics import generic_score

_GENERIC = (*METRICS, *MULTILABEL_METRICS, "many", "medium", "few")
_STAGES = {"final": "personal", "realigned": "personal, realigned", "finetuned": "personal, fine-tuned"}


@dataclass(frozen=True)
class Summary:
    """Generic and personal accuracy of the last round, before and after realignment.

    Attributes:
        generic: head → score, its primary metric, and the others (0..1 or None).
        personal: stage → mean, std, worst, worst_site of the primary metric, and the means of all.
        headline: the method's own generic head and last personal stage: generic, personal, many, medium, few.
        cost: seconds and bytes a round, mean, and training images × local epochs a second.
    """

    generic: dict[str, dict[str, Any]]
    personal: dict[str, dict[str, Any]]
    headline: dict[str, Any]
    cost: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dict(vars(self))

    def as_text(self) -> str:
        """Return the table that a run prints last."""
        columns = f"{'all':>8}{'many':>9}{'medium':>9}{'few':>9}" if self.generic else ""
        measured = [*self.generic.values(), *(metrics.get("means", {}) for metrics in self.personal.values())]
        multilabel = any("macro_auc" in metrics for metrics in measured)
        title = "macro AUC of the last round" if multilabel else "accuracy of the last round"
        rows = [f"{title:32}{columns}"]
        for head, metrics in self.generic.items():
            cells = [metrics.get(key) for key in ("score", "many", "medium", "few")]
            rows.append(f"{'generic, ' + HEAD_TITLES[head]:32}" + " ".join(f"{percent(c):>8}" for c in cells))
        for stage, metrics in self.personal.items():
            rows.append(
                f"{_STAGES[stage]:32}{percent(metrics['mean']):>8}  ± {percent(metrics.get('std'))} over sites, "
                f"worst {percent(metrics.get('worst'))} ({metrics.get('worst_site')})"
            )
        return "\n".join(rows)


def summarise(folder: Path) -> Summary:
    """Read a run's journal and return its metrics."""
    events = read_events(folder)
    final = [e for e in events if e["event"] == "generic" and e.get("stage") == "final"]
    generic = {e["head"]: {k: e[k] for k in _GENERIC if k in e} | {"score": generic_score(e)} for e in final}
    personal: dict[str, dict[str, Any]] = {
        e["stage"]: {k: e[k] for k in ("mean", "std", "worst", "worst_site", "means") if k in e}
        for e in events
        if e["event"] == "personal" and e["stage"] in _STAGES
    }
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    head = METHODS[config["method"]].reported_head if generic else None  # real coordinators may have no test images
    last_stage = list(personal)[-1] if personal else None
    judged = generic.get(head or "", {})  # its line may be damaged
    headline = {
        "head": head,
        "stage": last_stage,
        "generic": judged.get("score"),
        **{group: judged.get(group) for group in ("many", "medium", "few")},
        "personal": personal[last_stage]["mean"] if last_stage else None,
    }
    return Summary(generic, personal, headline, _cost(events, config["local-epochs"]))


def _cost(events: list[dict[str, Any]], epochs: int) -> dict[str, float]:
    keys = ("seconds", "bytes_down", "bytes_up")
    rounds = [e for e in events if e["event"] == "round" and all(e.get(key) is not None for key in keys)]
    found = {key: sum(e[key] for e in rounds) / max(1, len(rounds)) for key in keys}
    images = epochs * sum(e.get("images", 0) for e in rounds)
    return found | {"images_per_second": images / max(1e-9, sum(e["seconds"] for e in rounds))}
