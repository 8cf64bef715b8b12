"""Metrics against scikit-learn and naive loops."""

import json
import math
import statistics
from itertools import chain

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

from common import metrics

CLASSES = 6
PAIRS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=60)
COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=12)


def split(pairs: list[tuple[int, int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def tally(predictions: metrics.Integers, labels: metrics.Integers, num_classes: int = CLASSES) -> metrics.Tally:
    result = metrics.Tally(num_classes)
    result.add(predictions, labels)
    return result


@given(PAIRS)
def test_figures_equal_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    predictions, labels = split(pairs)
    counted = tally(predictions, labels)
    assert counted.accuracy() == pytest.approx(accuracy_score(labels, predictions))

    recalls = counted.per_class()
    expected = recall_score(labels, predictions, labels=np.arange(CLASSES), average=None, zero_division=np.nan)
    np.testing.assert_allclose(recalls, expected)
    assert recalls.dtype == np.float64

    present = np.unique(labels)
    balanced = recall_score(labels, predictions, labels=present, average="macro")
    assert metrics.balanced_accuracy(recalls) == pytest.approx(balanced)
    if set(predictions) <= set(present) and len(present) > 1:  # else scikit-learn warns, and means the same
        assert balanced == pytest.approx(balanced_accuracy_score(labels, predictions))


@given(PAIRS)
def test_the_confusion_matrix_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    predictions, labels = split(pairs)
    report = tally(predictions, labels).report(metrics.groups([1] * CLASSES))
    matrix = np.zeros((CLASSES, CLASSES), np.int64)
    for true, predicted, images in report.confusion:
        matrix[true, predicted] = images
    np.testing.assert_array_equal(matrix, confusion_matrix(labels, predictions, labels=np.arange(CLASSES)))
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(labels, minlength=CLASSES))
    recalls = [row[c] / row.sum() if row.any() else math.nan for c, row in enumerate(matrix)]
    np.testing.assert_array_equal(report.per_class, recalls)
    assert all(images for *_, images in report.confusion) and list(report.confusion) == sorted(report.confusion)


@given(PAIRS, st.lists(st.integers(0, 60), max_size=4), COUNTS.filter(lambda c: len(c) >= CLASSES))
def test_tally_in_batches_equals_one_pass(pairs: list[tuple[int, int]], cuts: list[int], counts: list[int]) -> None:
    predictions, labels = split(pairs)
    batches = metrics.Tally(CLASSES)
    for rows in np.split(np.arange(len(labels)), sorted(cuts)):  # some batches are empty
        batches.add(torch.from_numpy(predictions[rows]), torch.from_numpy(labels[rows]))

    assert batches.num_images == len(pairs)
    assert batches.pairs == tally(predictions, labels).pairs
    report = batches.report(metrics.groups(counts[:CLASSES]))
    recalls = tally(predictions, labels).per_class()
    np.testing.assert_array_equal(report.per_class, recalls)
    assert report.accuracy == pytest.approx(accuracy_score(labels, predictions))
    assert report.balanced_accuracy == pytest.approx(metrics.balanced_accuracy(recalls))
    assert {"many": report.many, "medium": report.medium, "few": report.few} == metrics.group_accuracy(
        recalls, metrics.groups(counts[:CLASSES])
    )

    plain = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert plain["per_class"] == [None if math.isnan(r) else r for r in recalls]


def test_a_tally_of_nothing() -> None:
    nothing = np.array([], dtype=np.int64)
    report = tally(nothing, nothing, 3).report(metrics.groups([5, 3, 1]))
    assert math.isnan(report.accuracy)
    assert report.as_json() == {
        "accuracy": None,
        "balanced_accuracy": None,
        "many": None,
        "medium": None,
        "few": None,
        "per_class": [None, None, None],
    }


def naive_groups(counts: list[int]) -> dict[str, list[int]]:
    """Take classes from the largest while the share taken so far has not reached the cut."""
    left = sorted((i for i, count in enumerate(counts) if count), key=lambda i: (-counts[i], i))
    result: dict[str, list[int]] = {}
    taken = 0
    for name, percent in (("many", 75), ("medium", 95)):
        result[name] = []
        while left and 100 * taken < percent * sum(counts):
            taken += counts[left[0]]
            result[name].append(left.pop(0))
    return {**result, "few": left + [i for i, count in enumerate(counts) if not count]}


@given(COUNTS)
@example([75, 20, 5])  # the running total meets the cuts exactly
@example([1] * 10)
@example([0, 0])
@example([0, 7])
def test_groups_equal_a_naive_loop(counts: list[int]) -> None:
    result = metrics.groups(counts)
    assert result == naive_groups(counts)
    assert list(result) == ["many", "medium", "few"]
    assert sorted(chain(*result.values())) == list(range(len(counts)))  # a partition of the classes
    if any(counts):
        assert result["many"]
        assert sum(counts[i] for i in result["many"]) * 4 >= sum(counts) * 3
    assert all(type(i) is int for classes in result.values() for i in classes)  # goes into JSON


def test_groups_of_known_tails() -> None:
    assert metrics.groups([75, 20, 5]) == {"many": [0], "medium": [1], "few": [2]}
    assert metrics.groups(np.array([1, 97, 2])) == {"many": [1], "medium": [], "few": [2, 0]}
    assert metrics.groups([1] * 10) == {"many": [*range(8)], "medium": [8, 9], "few": []}
    assert metrics.groups([0, 7, 0]) == {"many": [1], "medium": [], "few": [0, 2]}
    assert metrics.groups([0, 0]) == {"many": [], "medium": [], "few": [0, 1]}


@given(st.lists(st.one_of(st.just(math.nan), st.floats(0, 1)), min_size=CLASSES, max_size=CLASSES), COUNTS)
def test_group_accuracy_equals_a_naive_loop(recalls: list[float], counts: list[int]) -> None:
    groups = metrics.groups((counts * CLASSES)[:CLASSES])
    result = metrics.group_accuracy(np.array(recalls), groups)
    for name, classes in groups.items():
        present = [recalls[i] for i in classes if not math.isnan(recalls[i])]
        value = result[name]
        assert (value is None) == (not present)
        if value is not None:
            assert value == pytest.approx(sum(present) / len(present))


@given(st.dictionaries(st.text("abc-019", max_size=4), st.one_of(st.just(math.nan), st.floats(0, 1)), max_size=8))
def test_spread_equals_the_standard_library(sites: dict[str, float]) -> None:
    result = metrics.spread(sites)
    measured = {site: value for site, value in sites.items() if not math.isnan(value)}
    json.dumps(result.as_json(), allow_nan=False)
    if not measured:
        assert result.as_json() == {"mean": None, "std": None, "worst": None, "worst_site": None}
        return
    assert result.mean == pytest.approx(statistics.fmean(measured.values()))
    assert result.std == pytest.approx(statistics.pstdev(measured.values()), abs=1e-12)
    assert (result.worst, result.worst_site) == min((value, site) for site, value in measured.items())


def test_predictions_may_be_any_class_and_labels_may_not() -> None:
    zero = np.array([0, 0])
    np.testing.assert_array_equal(tally(np.array([0, 9]), zero, 2).per_class(), [0.5, np.nan])
    for labels in ([0, 2], [-1, 0]):
        with pytest.raises(ValueError, match="do not fit 2 classes"):
            tally(zero, np.array(labels), 2)
    with pytest.raises(ValueError, match=r"must both be \[N\]"):
        tally(zero, np.array([0]))
    with pytest.raises(TypeError):
        tally(np.array([0.5, 1.0]), zero)  # scores are not class indices


def test_a_report_cannot_change() -> None:
    report = metrics.Tally(1).report(metrics.groups([1]))
    with pytest.raises(AttributeError):
        report.accuracy = 1.0  # type: ignore[misc]
