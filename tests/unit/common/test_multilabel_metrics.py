"""Multi-label metrics against scikit-learn and naive loops; classes that cannot be measured."""

import json
import math
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from common import multilabel_metrics as metrics

C = 4
GROUPS = {"many": [0], "medium": [1, 2], "few": [3]}
Batch = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Probabilities [N, C] with and without ties, labels and mask; classes may lack positives or negatives."""
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    size = draw(st.integers(1, 40))
    probabilities = generator.random((size, C))
    if draw(st.booleans()):
        probabilities = np.rint(probabilities * 4) / 4
    labels = generator.random((size, C)) < np.array(draw(st.permutations([0.0, 0.2, 0.6, 1.0])))
    mask = generator.random((size, C)) < draw(st.sampled_from([1.0, 0.8]))
    return probabilities.astype(draw(st.sampled_from([np.float32, np.float64]))), labels, mask


def columns(batch: Batch) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]]:
    probabilities, labels, mask = batch
    return [(probabilities[mask[:, c], c], labels[mask[:, c], c]) for c in range(C)]


def mean(values: list[float]) -> float:
    present = [value for value in values if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan


@given(batches())
def test_auc_equals_scikit_learns_and_is_undefined_without_both_labels(batch: Batch) -> None:
    probabilities, labels, mask = batch
    expected = [
        roc_auc_score(truth, scores) if 0 < truth.sum() < len(truth) else math.nan for scores, truth in columns(batch)
    ]
    report = metrics.report(probabilities, labels, GROUPS, mask=mask)
    assert report.auc == pytest.approx(expected, nan_ok=True)
    assert report.undefined_auc == sum(map(math.isnan, expected))
    assert report.macro_auc == pytest.approx(mean(expected), nan_ok=True)
    truth = labels[mask]
    both = 0 < truth.sum() < len(truth)
    micro = roc_auc_score(truth, probabilities[mask]) if both else math.nan
    assert report.micro_auc == pytest.approx(micro, nan_ok=True)


@given(batches())
def test_auc_is_the_share_of_pairs_in_order(batch: Batch) -> None:
    for scores, truth in columns(batch):
        pairs = [(p > n) + 0.5 * (p == n) for p in scores[truth].tolist() for n in scores[~truth].tolist()]
        expected = sum(pairs) / len(pairs) if pairs else math.nan
        assert metrics.ranking_auc(scores, truth) == pytest.approx(expected, nan_ok=True)


@given(batches())
def test_average_precision_equals_scikit_learns(batch: Batch) -> None:
    probabilities, labels, mask = batch
    expected = [average_precision_score(truth, scores) if truth.any() else math.nan for scores, truth in columns(batch)]
    report = metrics.report(probabilities, labels, GROUPS, mask=mask)
    assert report.average_precision == pytest.approx(expected, nan_ok=True)
    assert report.mean_ap == pytest.approx(mean(expected), nan_ok=True)


@given(batches(), st.lists(st.floats(0, 1), min_size=C, max_size=C))
def test_f1_equals_scikit_learns_over_classes_with_positives(batch: Batch, thresholds: list[float]) -> None:
    probabilities, labels, mask = batch
    report = metrics.report(probabilities, labels, GROUPS, np.array(thresholds), mask)

    def f1(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], threshold: float) -> float:
        said = scores >= np.float64(threshold)
        return f1_score(truth, said, zero_division=0) if truth.any() else math.nan

    fixed = [f1(scores, truth, 0.5) for scores, truth in columns(batch)]
    tuned = [f1(*column, threshold) for column, threshold in zip(columns(batch), thresholds, strict=True)]
    assert report.f1 == pytest.approx(fixed, nan_ok=True)
    assert report.f1_tuned == pytest.approx(tuned, nan_ok=True)
    assert report.macro_f1 == pytest.approx(mean(fixed), nan_ok=True)
    assert report.macro_f1_tuned == pytest.approx(mean(tuned), nan_ok=True)
    present = np.flatnonzero(labels.any(axis=0))
    if mask.all() and len(present):
        said = probabilities >= 0.5
        expected = f1_score(labels, said, labels=present, average="macro", zero_division=0)
        assert report.macro_f1 == pytest.approx(expected)


@given(batches())
def test_of1_is_the_harmonic_mean_of_overall_precision_and_recall(batch: Batch) -> None:
    probabilities, labels, mask = batch
    said, truth = probabilities[mask] >= 0.5, labels[mask]
    of1 = metrics.report(probabilities, labels, GROUPS, mask=mask).of1
    if not said.any() and not truth.any():
        assert math.isnan(of1)
        return
    assert of1 == pytest.approx(f1_score(truth, said, zero_division=0))
    precision, recall = (score(truth, said, zero_division=0) for score in (precision_score, recall_score))
    if precision + recall:
        assert of1 == pytest.approx(2 * precision * recall / (precision + recall))


@given(batches())
def test_no_threshold_is_better_on_the_data_it_was_tuned_on(batch: Batch) -> None:
    probabilities, labels, mask = batch
    thresholds = metrics.tune_thresholds(probabilities, labels, mask)
    for c, (scores, truth) in enumerate(columns(batch)):
        if not truth.any():
            assert thresholds[c] == 0.5
            continue
        candidates = sorted({0.0, 0.5, *scores.tolist()})
        best = {t: f1_score(truth, scores >= np.float64(t), zero_division=0) for t in candidates}
        top = max(best.values())
        assert best[thresholds[c]] == pytest.approx(top)
        assert thresholds[c] == max(t for t in scores.tolist() if best[t] > top - 1e-12)


@given(batches(), st.integers(2, 20))
def test_calibration_error_equals_scikit_learns_curve_and_a_loop(batch: Batch, bins: int) -> None:
    probabilities, labels, mask = batch
    scores, truth = probabilities[mask].astype(np.float64), labels[mask]
    error = metrics.calibration_error(probabilities, labels, mask, bins)
    if not len(scores):
        assert math.isnan(error)
        return
    edges = np.linspace(0, 1, bins + 1)
    counts, gaps = [], []
    for i in range(bins):
        inside = (scores > edges[i]) & (scores <= edges[i + 1]) | ((i == 0) & (scores == 0))
        if inside.any():
            counts.append(inside.sum())
            gaps.append(abs(scores[inside].mean() - truth[inside].mean()))
    assert error == pytest.approx(np.average(gaps, weights=counts), abs=1e-12)
    shares, means = calibration_curve(truth, scores, n_bins=bins)
    assert error == pytest.approx(np.average(np.abs(shares - means), weights=counts), abs=1e-12)


def test_known_figures() -> None:
    labels = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], dtype=bool)
    probabilities = np.array([[0.9, 0.1], [0.4, 0.2], [0.6, 0.1], [0.1, 0.1]])
    report = metrics.report(probabilities, labels, {"many": [0], "medium": [], "few": [1]}, np.array([0.4, 0.5]))
    assert report.auc == pytest.approx((0.75, math.nan), nan_ok=True)
    assert report.undefined_auc == 1 and report.macro_auc == 0.75
    assert report.f1 == pytest.approx((0.5, math.nan), nan_ok=True)
    assert report.f1_tuned[0] == pytest.approx(0.8)
    assert report.average_precision[0] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert report.groups["many"]["auc"] == 0.75
    assert report.groups["few"]["auc"] is report.groups["medium"]["f1"] is None
    assert metrics.tune_thresholds(probabilities, labels).tolist() == [0.4, 0.5]


@given(batches())
def test_groups_are_means_of_their_measured_classes(batch: Batch) -> None:
    probabilities, labels, mask = batch
    report = metrics.report(probabilities, labels, GROUPS, mask=mask)
    for group, classes in GROUPS.items():
        for name, figures in (("auc", report.auc), ("f1", report.f1), ("average_precision", report.average_precision)):
            expected = mean([figures[c] for c in classes])
            value = report.groups[group][name]
            assert (math.nan if value is None else value) == pytest.approx(expected, nan_ok=True)
        assert report.groups[group]["f1_tuned"] is None


@given(batches())
def test_a_report_is_plain_json_and_a_mask_is_the_data_without_its_pairs(batch: Batch) -> None:
    probabilities, labels, mask = batch
    report = metrics.report(probabilities, labels, GROUPS, mask=mask)
    plain = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert set(plain) == set(vars(report)) - {"further"} | set(report.further)
    assert plain["auc"] == [None if math.isnan(value) else value for value in report.auc]
    other = metrics.report(np.where(mask, probabilities, 0.3), labels ^ ~mask, GROUPS, mask=mask)
    assert other.as_json() == report.as_json()


def test_nothing_at_all_is_no_figure() -> None:
    nothing = np.zeros((0, C))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = metrics.report(nothing, nothing.astype(bool), GROUPS).as_json()
    assert plain.pop("undefined_auc") == C
    flat = [*plain.pop("groups")["few"].values()]
    for value in plain.values():
        flat += value if isinstance(value, list) else [value]
    assert set(flat) == {None}


def test_what_is_no_probability_or_label_is_refused() -> None:
    half, truth = np.full((2, C), 0.5), np.ones((2, C), dtype=bool)
    for wrong in (half - 1, half + 1, half * math.nan):
        with pytest.raises(ValueError, match="numbers from 0 to 1"):
            metrics.report(wrong, truth, GROUPS)
    with pytest.raises(ValueError, match="labels: float64"):
        metrics.report(half, half, GROUPS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mask: bool"):
        metrics.class_auc(half, truth, truth[:1])


def test_a_report_cannot_change() -> None:
    report = metrics.report(np.full((2, C), 0.5), np.ones((2, C), dtype=bool), GROUPS)
    with pytest.raises(AttributeError):
        report.of1 = 1.0  # type: ignore[misc]
