"""What single-label and multilabel metrics share in the journal and for its readers.

The primary metric is balanced accuracy (generic) and accuracy (personal) of one label, and macro AUC of several.
"""

import math
from collections.abc import Mapping
from typing import Any

from common.metrics import ClassReport
from common.multilabel_metrics import MultilabelReport
from common.wire import MULTILABEL_METRICS

Report = ClassReport | MultilabelReport


def primary(report: Report) -> float:
    """Return a generic report's primary metric; nan if nothing could be measured."""
    return report.macro_auc if isinstance(report, MultilabelReport) else report.balanced_accuracy


def generic_facts(report: Report, *, final: bool = False) -> dict[str, Any]:
    """Return a generic report as the journal keeps it: many, medium, few and per_class are AUCs for several labels.

    The final one of one label an image has the confusion matrix too, as [true class, predicted class, images].
    """
    facts = report.as_json()
    if final and isinstance(report, ClassReport):
        facts["confusion"] = report.confusion
    if isinstance(report, MultilabelReport):
        groups = facts.pop("groups")
        facts |= {group: metrics["auc"] for group, metrics in groups.items()}
        facts |= {"figure": "macro_auc", "per_class": facts.pop("auc")}
    return facts


def generic_score(event: Mapping[str, Any]) -> float | None:
    """Return the primary metric of a generic event of the journal."""
    value = event.get("macro_auc") if event.get("figure") == "macro_auc" else event.get("balanced_accuracy")
    return None if value is None else float(value)


def site_metrics(metrics: Mapping[str, float], stage: str, num_test: int) -> dict[str, float] | None:
    """Return a site's metrics of a stage, the primary one first; None if its reply has none.

    Args:
        metrics: of the reply.
        stage: 'arrival' or one of `wire.STAGES`.
        num_test: the site's test images.
    """
    if (hits := metrics.get(f"hits-{stage}")) is not None:
        found = {"accuracy": hits / num_test if num_test else math.nan}
        balanced = metrics.get(f"balanced_accuracy-{stage}")  # the site's policy may withhold it
        return found if balanced is None else found | {"balanced_accuracy": balanced}
    found = {name: metrics[f"{name}-{stage}"] for name in MULTILABEL_METRICS if f"{name}-{stage}" in metrics}
    return {"macro_auc": math.nan} | found if found else None


def site_means(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the plain mean over sites of each metric, over the sites that could measure it."""
    means = {}
    for name in dict.fromkeys(name for site in metrics.values() for name in site):
        values = [site[name] for site in metrics.values() if not math.isnan(site.get(name, math.nan))]
        means[name] = sum(values) / len(values) if values else math.nan
    return means
