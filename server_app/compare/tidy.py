"""What finished runs measured, for dataframes: `results.csv` and `server_app.api.rows` are made of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from common.config import Experiment
from common.methods import Method

Row = dict[str, Any]

STAGES = {"arrival": "trained", "final": "trained", "realigned": "realigned", "finetuned": "fine-tuned"}
_OF_SITES = {"std": "_std", "worst": "_worst"}  # beside the mean over sites


def facts_of(name: str, variant: str, experiment: Experiment) -> Row:
    """Return what tells a run's rows from another's."""
    return {
        "run": name,
        "dataset": experiment.data.dataset,
        "method": experiment.method,
        "variant": variant,
        "seed": experiment.run.seed,
        "measured_on": experiment.data.evaluate_on,
    }


def models_of(method: Method, summary: Mapping[str, Any]) -> Iterator[tuple[Row, Row]]:
    """Yield each model that a run ended with, and its metrics: generic by head, personal by stage; last the run's cost.

    Args:
        method: the run's.
        summary: its `summary.json`.
    """
    for head, metrics in summary["generic"].items():
        about = {"model": "generic", "head": head, "stage": "", "judged": head == method.reported_head}
        yield about, {key: value for key, value in metrics.items() if key != "score"}  # which is one of the others
    stages = summary["personal"]
    judged = method.personal_stage if method.personal_stage in stages else "final"
    for stage, metrics in stages.items():
        means = metrics.get("means") or {"accuracy": metrics["mean"]}  # of versions before several labels
        first = next(iter(means))
        spread = {first + suffix: metrics[key] for key, suffix in _OF_SITES.items() if key in metrics}
        yield {"model": "personal", "head": "", "stage": STAGES[stage], "judged": stage == judged}, {**means, **spread}
    yield {"model": "run", "head": "", "stage": "", "judged": False}, dict(summary["cost"])
