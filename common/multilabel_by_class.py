"""What is measured of each class of images with several labels: AUC, average precision, F1, thresholds, calibration.

A class is measured only where its test labels allow it: AUC needs a positive and a negative, F1 and average precision
need a positive. Elsewhere the metric is nan. Pairs (image, class) outside a mask do not exist for any metric. AUC,
average precision and F1 are scikit-learn's, which is imported where it is used: that takes a second.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]
PerClass = npt.NDArray[np.float64]

FIXED_THRESHOLD = 0.5


def ranking_auc(scores: Floats, labels: Flags) -> float:
    """Return the chance that a positive outscores a negative, ties half; nan without both. Both are [n].

    Example:
        >>> import numpy as np
        >>> ranking_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        0.75
    """
    from sklearn.metrics import auc, roc_curve  # what `roc_auc_score` calls, without its checks of labels

    if labels.all() or not labels.any():
        return math.nan
    false_alarms, found, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(auc(false_alarms, found))


def class_auc(probabilities: Floats, labels: Flags, mask: Flags | None = None) -> PerClass:
    """Return each class's AUC [C]; nan where it lacks positives or negatives. Arguments as for `report`."""
    kept = counted(probabilities, labels, mask)
    return _by_class(lambda c: ranking_auc(probabilities[kept[:, c], c], labels[kept[:, c], c]), labels.shape[1])


def class_average_precision(probabilities: Floats, labels: Flags, mask: Flags | None = None) -> PerClass:
    """Return each class's average precision [C], Σ (R_i − R_{i−1}) P_i over its distinct scores, falling.

    nan where a class has no positive. Arguments as for `report`.
    """
    from sklearn.metrics import average_precision_score

    kept = counted(probabilities, labels, mask)

    def one(c: int) -> float:
        truth = labels[kept[:, c], c]
        return float(average_precision_score(truth, probabilities[kept[:, c], c])) if truth.any() else math.nan

    return _by_class(one, labels.shape[1])


def class_f1(probabilities: Floats, labels: Flags, thresholds: PerClass, mask: Flags | None = None) -> PerClass:
    """Return each class's F1 [C] where p ≥ `thresholds` [C] is a yes; nan where a class has no positive."""
    kept = counted(probabilities, labels, mask)
    found = f1_of(probabilities >= thresholds, labels, kept, None)
    return np.where((labels & kept).any(axis=0), found, np.nan)


def tune_thresholds(probabilities: Floats, labels: Flags, mask: Flags | None = None) -> PerClass:
    """Return each class's threshold [C] of largest F1 on validation data; arguments as for `report`.

    It is one of the class's own probabilities, of equally good ones the highest. A class without a positive
    keeps 0.5. This is from counts, whose quotients are equal where two thresholds are equally good: scikit-learn's
    `precision_recall_curve` gives rounded quotients, of which the F1 of either may come out larger.
    """
    kept = counted(probabilities, labels, mask)

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
    kept = counted(probabilities, labels, mask)
    scores, truth = probabilities[kept].astype(np.float64), labels[kept]
    if not scores.size:
        return math.nan
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], scores)
    return float(np.abs(np.bincount(place, weights=scores - truth)).sum() / scores.size)


def mean_defined(values: PerClass) -> float:
    """Return the unweighted mean of the entries that are not nan; nan if none is."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else math.nan


def counted(probabilities: Floats, labels: Flags, mask: Flags | None) -> Flags:
    """Return the pairs [N, C] that count: `mask`, or all.

    Raises:
        ValueError: shapes or types do not fit, or a probability is not in 0..1.
    """
    for name, given in (("labels", labels), ("mask", labels if mask is None else mask)):
        if given.dtype != np.bool_ or given.ndim != 2 or given.shape != probabilities.shape:
            raise ValueError(f"{name}: {given.dtype} {given.shape} beside probabilities {probabilities.shape}")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities must be numbers from 0 to 1")
    return np.ones_like(labels) if mask is None else mask


def f1_of(predicted: Flags, labels: Flags, kept: Flags, average: str | None) -> PerClass:
    """Return F1 of each class [C], or with "micro" over all pairs at once; nan without a yes and a positive."""
    from sklearn.metrics import f1_score

    if not len(labels):
        return np.full(() if average else labels.shape[1], np.nan)
    # What does not count is a no on both sides, which F1 does not see. One column alone would pass for two classes.
    truth, said = (np.pad(flags & kept, ((0, 0), (0, 1))) for flags in (labels, predicted))
    found = np.asarray(f1_score(truth, said, average=average, zero_division=np.nan), np.float64)
    return found if average else found[:-1]


def _counts_above_scores(scores: Floats, labels: Flags) -> tuple[PerClass, PerClass, Floats]:
    """Return (positives, images) at or above each distinct score, and the scores, from the highest down."""
    values, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    hits = np.bincount(place, weights=labels, minlength=len(values))
    return np.cumsum(hits[::-1]), np.cumsum(ties[::-1]).astype(np.float64), values[::-1]


def _by_class(metric: Callable[[int], float], num_classes: int) -> PerClass:
    return np.array([metric(c) for c in range(num_classes)], dtype=np.float64)
