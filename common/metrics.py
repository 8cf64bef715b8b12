"""Accuracy, as a share of 1, by class, by many/medium/few and by site. Pure functions and one tally.

A metric over no image at all is nan, or None where it goes into JSON; it is never counted as 0.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Integers = npt.NDArray[np.integer[Any]] | torch.Tensor  # class indices, [N]; tensors may be on any device
Groups = dict[str, list[int]]  # 'many' | 'medium' | 'few' -> class indices, largest class first
Confusion = tuple[tuple[int, int, int], ...]  # (true class, predicted class, images), of pairs that have images


def balanced_accuracy(per_class: npt.NDArray[np.float64]) -> float:
    """Return the unweighted mean of [C] recalls over classes that have test images; nan if none has."""
    return _mean(per_class)


def groups(class_counts: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Groups:
    """Split classes into many, medium and few, by their share of all training images.

    Classes are sorted by count, largest first, equal ones by index. With s the share of images in the
    classes *before* a class, it belongs to `many` if s < 75 %, to `medium` if s < 95 %, else to `few`. So
    the class that carries the running total past a cut still belongs to the side before it, and `many` is
    never empty. A class without training images belongs to `few`. `medium` and `few` can be empty.
    Balanced classes, too, are cut (8 of 10 are `many`): the names mean something on a long tail only.

    Example:
        >>> groups([80, 15, 3, 2])
        {'many': [0], 'medium': [1], 'few': [2, 3]}
    """
    counts = np.asarray(class_counts, dtype=np.int64)
    total = int(counts.sum())
    result: Groups = {"many": [], "medium": [], "few": []}
    before = 0
    for index in np.argsort(-counts, kind="stable").tolist():
        count = int(counts[index])
        if count == 0 or 20 * before >= 19 * total:  # whole numbers: a share of exactly 95 % is not below it
            result["few"].append(index)
        elif 4 * before >= 3 * total:
            result["medium"].append(index)
        else:
            result["many"].append(index)
        before += count
    return result


def group_accuracy(per_class: npt.NDArray[np.float64], groups: Mapping[str, Sequence[int]]) -> dict[str, float | None]:
    """Return the unweighted mean recall of each group; None where none of its classes has a test image."""
    return {name: _or_none(_mean(per_class[list(classes)])) for name, classes in groups.items()}


@dataclass(frozen=True)
class Spread:
    """Accuracy over sites: unweighted mean, population standard deviation, and the worst site.

    Without any site that has test images the three numbers are nan and `worst_site` is empty.
    """

    mean: float
    std: float
    worst: float
    worst_site: str

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values, None for nan."""
        return {
            "mean": _or_none(self.mean),
            "std": _or_none(self.std),
            "worst": _or_none(self.worst),
            "worst_site": self.worst_site or None,
        }


def spread(site_accuracies: Mapping[str, float]) -> Spread:
    """Summarise personal accuracy over sites; those whose accuracy is nan (no test image) are left out.

    Of several equally bad sites the first by name is the worst.

    Example:
        >>> found = spread({"north": 0.9, "south": 0.7})
        >>> round(found.mean, 3), found.worst
        (0.8, 0.7)
    """
    measured = {site: site_accuracies[site] for site in sorted(site_accuracies)}
    measured = {site: value for site, value in measured.items() if not math.isnan(value)}
    if not measured:
        return Spread(math.nan, math.nan, math.nan, "")
    values = np.array(list(measured.values()), dtype=np.float64)
    worst = min(measured, key=measured.__getitem__)
    return Spread(float(values.mean()), float(values.std()), float(measured[worst]), worst)


@dataclass(frozen=True)
class ClassReport:
    """One head's metrics on one test set; nan, or None for a group, where there is no test image.

    Attributes:
        metrics: of each of `METRICS`.
        many: mean recall of the classes with many training images.
        medium: of those with a medium number.
        few: of those with few.
        per_class: each class's recall, [C].
        confusion: the confusion matrix [C, C] as its entries above 0, sorted: most are 0 where classes are many.
    """

    metrics: Mapping[str, float]
    many: float | None
    medium: float | None
    few: float | None
    per_class: tuple[float, ...]
    confusion: Confusion = ()

    @property
    def accuracy(self) -> float:
        """The share of all images that were right."""
        return self.metrics["accuracy"]

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have test images."""
        return self.metrics["balanced_accuracy"]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values, None for nan; without the confusion matrix."""
        return {
            **{name: _or_none(value) for name, value in self.metrics.items()},
            "many": self.many,
            "medium": self.medium,
            "few": self.few,
            "per_class": [_or_none(value) for value in self.per_class],
        }


class Tally:
    """Correct and all test images of each class, added batch by batch, in whole numbers on the CPU.

    Attributes:
        correct: images predicted right, int64 [C].
        total: images, int64 [C].
        predicted: images taken for the class, int64 [C].
        pairs: (true class, predicted class) → images.
    """

    def __init__(self, num_classes: int) -> None:
        self.correct: npt.NDArray[np.int64] = np.zeros(num_classes, dtype=np.int64)
        self.total: npt.NDArray[np.int64] = np.zeros(num_classes, dtype=np.int64)
        self.predicted: npt.NDArray[np.int64] = np.zeros(num_classes, dtype=np.int64)
        self.pairs: Counter[tuple[int, int]] = Counter()

    def add(self, predictions: Integers, labels: Integers) -> None:
        """Count one batch of [B] predictions; B = 0 is allowed.

        Raises:
            ValueError: the two differ in shape, or a label is outside 0…C−1 (a prediction may be).
        """
        guessed, true = _pair(predictions, labels)
        classes = len(self.total)
        if true.size and (true.min() < 0 or true.max() >= classes):
            raise ValueError(f"labels from {true.min()} to {true.max()} do not fit {classes} classes")
        self.total += np.bincount(true, minlength=classes)
        self.predicted += np.bincount(guessed[(guessed >= 0) & (guessed < classes)], minlength=classes)
        self.correct += np.bincount(true[guessed == true], minlength=classes)
        self.pairs.update(zip(true.tolist(), guessed.tolist(), strict=True))

    @property
    def num_images(self) -> int:
        """How many images were counted."""
        return int(self.total.sum())

    def accuracy(self) -> float:
        """Return the share of all images that were right; nan before the first image."""
        return float(self.correct.sum() / self.num_images) if self.num_images else math.nan

    def per_class(self) -> npt.NDArray[np.float64]:
        """Return each class's recall, [C]; nan where a class has no image."""
        recalls = np.full(len(self.total), np.nan)
        np.divide(self.correct, self.total, out=recalls, where=self.total > 0)
        return recalls

    def report(self, groups: Mapping[str, Sequence[int]]) -> ClassReport:
        """Return all metrics; `groups` holds many, medium and few, as `groups()` returns them."""
        recalls = self.per_class()
        by_group = group_accuracy(recalls, groups)
        return ClassReport(
            metrics={name: metric.measure(self) for name, metric in METRICS.items()},
            many=by_group["many"],
            medium=by_group["medium"],
            few=by_group["few"],
            per_class=tuple(recalls.tolist()),
            confusion=tuple((*pair, images) for pair, images in sorted(self.pairs.items())),
        )


@dataclass(frozen=True)
class Metric:
    """A metric of a head where images have one label: a share of 1.

    Attributes:
        title: as tables call it.
        measure: of all test images; nan where there is nothing to measure.
    """

    title: str
    measure: Callable[[Tally], float]


# Name in the journal and in results → the metric. Tables show those that are added here beside their own columns.
METRICS: dict[str, Metric] = {
    "accuracy": Metric("Plain accuracy", Tally.accuracy),
    "balanced_accuracy": Metric("Balanced accuracy", lambda tally: balanced_accuracy(tally.per_class())),
}


def further_metrics() -> dict[str, str]:
    """Return name → title of the metrics beside the accuracies, which have their places in every table."""
    return {name: metric.title for name, metric in METRICS.items() if name not in ("accuracy", "balanced_accuracy")}


def _pair(predictions: Integers, labels: Integers) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    guessed, true = _as_array(predictions), _as_array(labels)
    if guessed.shape != true.shape or true.ndim != 1:
        raise ValueError(f"predictions {guessed.shape} and labels {true.shape} must both be [N]")
    return guessed, true


def _as_array(values: Integers) -> npt.NDArray[np.int64]:
    plain = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    return plain.astype(np.int64, casting="same_kind", copy=False)  # scores are refused: TypeError


def _mean(values: npt.NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else math.nan


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
