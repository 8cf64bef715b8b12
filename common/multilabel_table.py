"""The metrics of images with several labels, a row each: what they are called, and where tables show them.

A row with `measure` is all that another metric takes: sites report it, journal, results and tables have it. The first
ones are fields of `MultilabelReport` in `common/multilabel_metrics.py`, which measures them together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class MultilabelMetric:
    """One metric of a head.

    Attributes:
        title: as a run's report calls it.
        short: as a comparison's tables call it.
        place: 'primary', what a run is judged by; 'main', in a comparison's first table; 'further', in its second;
            'count', a number and no share; 'by shot', of personal models in simulation alone, whose coordinator knows
            which classes have many, medium or few training images in all.
        measure: of probabilities [N, C], labels bool [N, C] and the pairs that count, bool [N, C]: a share of 1, nan
            where nothing can be measured; None: a field of `MultilabelReport`.
    """

    title: str
    short: str
    place: Literal["primary", "main", "further", "count", "by shot"]
    measure: Callable[[Any, Any, Any], float] | None = None


# name in replies, journal and results → row
MULTILABEL: dict[str, MultilabelMetric] = {
    "macro_auc": MultilabelMetric("Macro AUC", "AUC", "primary"),
    "micro_auc": MultilabelMetric("Micro AUC", "micro AUC", "further"),
    "mean_ap": MultilabelMetric("mAP", "mAP", "main"),
    "macro_f1": MultilabelMetric("Macro F1 at 0.5", "F1", "main"),
    "macro_f1_tuned": MultilabelMetric("Macro F1, tuned", "F1 tuned", "main"),
    "of1": MultilabelMetric("OF1 at 0.5", "OF1", "further"),
    "calibration_error": MultilabelMetric("Calibration error", "calibration error", "further"),
    "undefined_auc": MultilabelMetric("Classes without AUC", "classes without AUC", "count"),
    "auc_many": MultilabelMetric("AUC, many", "AUC many", "by shot"),
    "auc_medium": MultilabelMetric("AUC, medium", "medium", "by shot"),
    "auc_few": MultilabelMetric("AUC, few", "few", "by shot"),
}


def titles(*places: str) -> dict[str, str]:
    """Return name → title of the metrics that tables show in these places."""
    return {name: metric.title for name, metric in MULTILABEL.items() if metric.place in places}


def short_titles(*places: str) -> dict[str, str]:
    """Return name → short title of the metrics that tables show in these places."""
    return {name: metric.short for name, metric in MULTILABEL.items() if metric.place in places}
