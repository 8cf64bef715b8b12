"""Multi-label metrics of probabilities [N, C], as shares of 1: overall, by class and by many/medium/few.

Where nothing can be measured a metric is nan (None in JSON) and stays out of every mean; it is counted, never set to 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from common.metrics import group_accuracy
from common.multilabel_by_class import (
    FIXED_THRESHOLD,
    Flags,
    Floats,
    PerClass,
    calibration_error,
    class_auc,
    class_average_precision,
    class_f1,
    counted,
    f1_of,
    mean_defined,
    ranking_auc,
    tune_thresholds,
)
from common.multilabel_table import MULTILABEL
from common.seeds import numpy_generator


@dataclass(frozen=True)
class MultilabelReport:
    """One model's metrics on one test set; nan where nothing can be measured.

    Attributes:
        macro_auc: mean of `auc` over classes where it is defined.
        micro_auc: AUC over all pairs (image, class) at once.
        macro_f1: mean of `f1`, at probability 0.5.
        macro_f1_tuned: mean of `f1_tuned`, at thresholds from validation data; nan without them.
        of1: overall F1 over all pairs at once, at 0.5.
        mean_ap: mAP, mean of `average_precision`.
        calibration_error: see `calibration_error`.
        undefined_auc: classes without a positive or without a negative.
        auc: C values.
        average_precision: C values.
        f1: C values.
        f1_tuned: C values.
        thresholds: C, those of `f1_tuned`; nan without them.
        further: the metrics of `MULTILABEL` that bring their own measure.
        groups: 'many' | 'medium' | 'few' -> name of a metric by class -> its mean there, or None.
    """

    macro_auc: float
    micro_auc: float
    macro_f1: float
    macro_f1_tuned: float
    of1: float
    mean_ap: float
    calibration_error: float
    undefined_auc: int
    auc: tuple[float, ...]
    average_precision: tuple[float, ...]
    f1: tuple[float, ...]
    f1_tuned: tuple[float, ...]
    thresholds: tuple[float, ...]
    groups: Mapping[str, Mapping[str, float | None]]
    further: Mapping[str, float] = field(default_factory=dict)

    def value(self, name: str) -> float:
        """Return a metric by its name in `MULTILABEL`."""
        return float(self.further[name] if name in self.further else getattr(self, name))

    @property
    def auc_many(self) -> float:
        """Mean of `auc` over classes with many training images, nan where they are not known."""
        return self._auc_of("many")

    @property
    def auc_medium(self) -> float:
        """The same of classes with a medium number."""
        return self._auc_of("medium")

    @property
    def auc_few(self) -> float:
        """The same of classes with few."""
        return self._auc_of("few")

    def _auc_of(self, group: str) -> float:
        value = self.groups.get(group, {}).get("auc")
        return math.nan if value is None else value

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values, None for nan."""
        plain: dict[str, Any] = {"groups": {name: dict(metrics) for name, metrics in self.groups.items()}}
        for name, value in vars(self).items():
            if name not in ("groups", "further"):
                plain[name] = [_or_none(v) for v in value] if isinstance(value, tuple) else _or_none(value)
        return plain | {name: _or_none(value) for name, value in self.further.items()}


def report(
    probabilities: Floats,
    labels: Flags,
    groups: Mapping[str, Sequence[int]],
    thresholds: PerClass | None = None,
    mask: Flags | None = None,
) -> MultilabelReport:
    """Measure everything at once.

    Args:
        probabilities: [N, C] in 0..1.
        labels: [N, C].
        groups: many, medium and few by training count, as `metrics.groups` returns them.
        thresholds: [C], from `tune_thresholds` on validation data; None: `f1_tuned` is nan.
        mask: [N, C] pairs that count; None: all.

    Raises:
        ValueError: shapes or types do not fit, or a probability is not in 0..1.
    """
    kept = counted(probabilities, labels, mask)
    num_classes = labels.shape[1]
    auc = class_auc(probabilities, labels, kept)
    precision = class_average_precision(probabilities, labels, kept)
    f1 = class_f1(probabilities, labels, np.full(num_classes, FIXED_THRESHOLD), kept)
    tuned = np.full(num_classes, np.nan)
    used_thresholds = tuned if thresholds is None else thresholds
    if thresholds is not None:
        tuned = class_f1(probabilities, labels, thresholds, kept)
    by_class = {"auc": auc, "average_precision": precision, "f1": f1, "f1_tuned": tuned}
    by_group = {name: group_accuracy(values, groups) for name, values in by_class.items()}
    scores, truth = probabilities[kept], labels[kept]
    return MultilabelReport(
        macro_auc=mean_defined(auc),
        micro_auc=ranking_auc(scores, truth),
        macro_f1=mean_defined(f1),
        macro_f1_tuned=mean_defined(tuned),
        of1=float(f1_of(probabilities >= FIXED_THRESHOLD, labels, kept, "micro")),
        mean_ap=mean_defined(precision),
        calibration_error=calibration_error(probabilities, labels, kept),
        undefined_auc=int(np.isnan(auc).sum()),
        auc=tuple(auc.tolist()),
        average_precision=tuple(precision.tolist()),
        f1=tuple(f1.tolist()),
        f1_tuned=tuple(tuned.tolist()),
        thresholds=tuple(used_thresholds.tolist()),
        groups={group: {name: by_group[name][group] for name in by_class} for group in groups},
        further={
            name: metric.measure(probabilities, labels, kept) for name, metric in MULTILABEL.items() if metric.measure
        },
    )


def measure_split(
    probabilities: Floats,
    labels: Flags,
    groups: Mapping[str, Sequence[int]],
    seed: int,
    site: str,
    mask: Flags | None = None,
) -> MultilabelReport:
    """Tune thresholds on a fifth of the test images, drawn from the seed, and measure the others.

    The metrics of every head and stage are thus of the same images, tuned or not. Fewer than five images are
    all measured, without tuned thresholds.

    Args:
        seed: the run's.
        site: whose test images, '' for the coordinator's.
    """
    tuning, measured = split_rows(len(labels), seed, site)
    masks = (None, None) if mask is None else (mask[tuning], mask[measured])
    thresholds = tune_thresholds(probabilities[tuning], labels[tuning], masks[0]) if len(tuning) else None
    return report(probabilities[measured], labels[measured], groups, thresholds, masks[1])


def split_rows(images: int, seed: int, site: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows of a fifth of the test images, for tuning, and those of the others; see `measure_split`."""
    order = numpy_generator(seed, "thresholds", site).permutation(images)
    return np.sort(order[: images // 5]), np.sort(order[images // 5 :])


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
