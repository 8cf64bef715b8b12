"""Multi-label metrics of probabilities [N, C], as shares of 1: overall, by class and by many/medium/few.

A class is measured only where its test labels allow it: AUC needs a positive and a negative, F1 and average
precision need a positive. Elsewhere the metric is nan (None in JSON) and stays out of every mean; it is
counted, never set to 0. Pairs (image, class) outside a mask do not exist for any metric.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from common.metrics import group_accuracy
from common.multilabel_table import MULTILABEL
from common.seeds import numpy_generator

Floats = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]
PerClass = npt.NDArray[np.float64]

FIXED_THRESHOLD = 0.5


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
    kept = _counted(probabilities, labels, mask)
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
        of1=_f1(scores >= FIXED_THRESHOLD, truth),
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


def ranking_auc(scores: Floats, labels: Flags) -> float:
    """Return the chance that a positive outscores a negative, ties half; nan without both. Both are [n].

    By the rank sum of positives, with ties at their mean rank (Hanley and McNeil, Radiology 1982).

    Example:
        >>> import numpy as np
        >>> ranking_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        0.75
    """
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return math.nan
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(ties) - (ties - 1) / 2
    return float((ranks[place][labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def class_auc(probabilities: Floats, labels: Flags, mask: Flags | None = None) -> PerClass:
    """Return each class's AUC [C]; nan where it lacks positives or negatives. Arguments as for `report`."""
    kept = _counted(probabilities, labels, mask)
    return _by_class(lambda c: ranking_auc(probabilities[kept[:, c], c], labels[kept[:, c], c]), labels.shape[1])


def class_average_precision(probabilities: Floats, labels: Flags, mask: Flags | None = None) -> PerClass:
    """Return each class's average precision [C], Σ (R_i − R_{i−1}) P_i over its distinct scores, falling.

    nan where a class has no positive. Arguments as for `report`.
    """
    kept = _counted(probabilities, labels, mask)

    def one(c: int) -> float:
        hits, taken, _ = _counts_above_scores(probabilities[kept[:, c], c], labels[kept[:, c], c])
        if not len(hits) or not hits[-1]:
            return math.nan
        return float((np.diff(hits, prepend=0) * hits / taken).sum() / hits[-1])

    return _by_class(one, labels.shape[1])


def class_f1(probabilities: Floats, labels: Flags, thresholds: PerClass, mask: Flags | None = None) -> PerClass:
    """Return each class's F1 [C] where p ≥ `thresholds` [C] is a yes; nan where a class has no positive."""
    kept = _counted(probabilities, labels, mask)
    predicted = probabilities >= thresholds
    return _by_class(
        lambda c: _f1(predicted[kept[:, c], c], labels[kept[:, c], c]) if labels[kept[:, c], c].any() else math.nan,
        labels.shape[1],
    )


def tune_thresholds(probabilities: Floats, labels: Flags, mask: Flags | None = None) -> PerClass:
    """Return each class's threshold [C] of largest F1 on validation data; arguments as for `report`.

    It is one of the class's own probabilities, of equally good ones the highest. A class without a positive
    keeps 0.5.
    """
    kept = _counted(probabilities, labels, mask)

    def one(c: int) -> float:
        hits, taken, scores = _counts_above_scores(probabilities[kept[:, c], c], labels[kept[:, c], c])
        if not len(hits) or not hits[-1]:
            return FIXED_THRESHOLD
        return float(scores[np.argmax(2 * hits / (taken + hits[-1]))])

    return _by_class(one, labels.shape[1])


def calibration_error(probabilities: Floats, labels: Flags, mask: Flags | None = None, bins: int = 15) -> float:
    """Return the expected calibration error over all pairs (image, class); nan without any.

    Pairs fall into equally wide bins of their probability, closed on the right; the error is the mean over
    pairs of their bin's |mean probability − share of positives| (Guo et al., ICML 2017,
    https://arxiv.org/abs/1706.04599, Eq. 3).

    Example:
        >>> import numpy as np
        >>> half = np.full((4, 1), 0.5)
        >>> calibration_error(half, np.array([[True], [True], [False], [False]]))
        0.0
    """
    kept = _counted(probabilities, labels, mask)
    scores, truth = probabilities[kept].astype(np.float64), labels[kept]
    if not scores.size:
        return math.nan
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], scores)
    return float(np.abs(np.bincount(place, weights=scores - truth)).sum() / scores.size)


def mean_defined(values: PerClass) -> float:
    """Return the unweighted mean of the entries that are not nan; nan if none is."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else math.nan


def _counted(probabilities: Floats, labels: Flags, mask: Flags | None) -> Flags:
    for name, given in (("labels", labels), ("mask", labels if mask is None else mask)):
        if given.dtype != np.bool_ or given.ndim != 2 or given.shape != probabilities.shape:
            raise ValueError(f"{name}: {given.dtype} {given.shape} beside probabilities {probabilities.shape}")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities must be numbers from 0 to 1")
    return np.ones_like(labels) if mask is None else mask


def _counts_above_scores(scores: Floats, labels: Flags) -> tuple[PerClass, PerClass, Floats]:
    """Return (positives, images) at or above each distinct score, and the scores, from the highest down."""
    values, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    hits = np.bincount(place, weights=labels, minlength=len(values))
    return np.cumsum(hits[::-1]), np.cumsum(ties[::-1]).astype(np.float64), values[::-1]


def _f1(predicted: Flags, labels: Flags) -> float:
    """Return 2 TP / (yeses + positives), the harmonic mean of precision and recall; nan for 0 / 0."""
    total = int(predicted.sum()) + int(labels.sum())
    return 2 * int((predicted & labels).sum()) / total if total else math.nan


def _by_class(metric: Callable[[int], float], num_classes: int) -> PerClass:
    return np.array([metric(c) for c in range(num_classes)], dtype=np.float64)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
