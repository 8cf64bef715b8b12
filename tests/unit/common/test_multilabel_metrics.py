"""Multi-label metrics against naive loops; classes that cannot be measured."""

import json
import math
import warnings
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from common import multilabel_by_class as by_class
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


def naive_auc(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> float:
    """The share of pairs of a positive and a negative in which the positive has more; a tie is half of one."""
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[truth].tolist() for n in scores[~truth].tolist()]
    return sum(pairs) / len(pairs) if pairs else math.nan


def naive_average_precision(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> float:
    """Σ (R_i − R_{i−1}) P_i, with a yes for everything at or above the i-th distinct score from the top."""
    if not truth.any():
        return math.nan
    total = before = Fraction(0)
    for threshold in sorted(set(scores.tolist()), reverse=True):
        yes = [bool(label) for score, label in zip(scores.tolist(), truth, strict=True) if score >= threshold]
        recall = Fraction(sum(yes), int(truth.sum()))
        total += (recall - before) * Fraction(sum(yes), len(yes))
        before = recall
    return float(total)


def naive_f1(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], threshold: float) -> Fraction | None:
    """The harmonic mean of precision and recall, from counts; None where there is no yes and no positive."""
    hits = misses = false_alarms = 0
    for score, positive in zip(scores.tolist(), truth.tolist(), strict=True):
        yes = score >= threshold
        hits += yes and positive
        misses += positive and not yes
        false_alarms += yes and not positive
    if not hits + misses + false_alarms:
        return None
    if not hits:
        return Fraction(0)
    precision, recall = Fraction(hits, hits + false_alarms), Fraction(hits, hits + misses)
    return 2 * precision * recall / (precision + recall)


@given(batches())
def test_auc_is_the_share_of_pairs_in_order_and_undefined_without_both_labels(batch: Batch) -> None:
    probabilities, labels, mask = batch
    expected = [naive_auc(*column) for column in columns(batch)]
    report = metrics.report(probabilities, labels, GROUPS, mask=mask)
    assert report.auc == pytest.approx(expected, nan_ok=True, abs=1e-12)
    assert [math.isnan(auc) for auc in report.auc] == [not 0 < t.sum() < len(t) for _, t in columns(batch)]
    assert report.undefined_auc == sum(map(math.isnan, expected))
    assert report.macro_auc == pytest.approx(mean(expected), nan_ok=True, abs=1e-12)
    micro = naive_auc(probabilities[mask], labels[mask])
    assert report.micro_auc == pytest.approx(micro, nan_ok=True, abs=1e-12)


@given(batches())
def test_average_precision_is_the_sum_over_distinct_scores(batch: Batch) -> None:
    probabilities, labels, mask = batch
    expected = [naive_average_precision(*column) for column in columns(batch)]
    report = metrics.report(probabilities, labels, GROUPS, mask=mask)
    assert report.average_precision == pytest.approx(expected, nan_ok=True, abs=1e-12)
    assert report.mean_ap == pytest.approx(mean(expected), nan_ok=True, abs=1e-12)


@given(batches(), st.lists(st.floats(0, 1), min_size=C, max_size=C))
def test_f1_is_of_classes_with_positives(batch: Batch, thresholds: list[float]) -> None:
    probabilities, labels, mask = batch
    report = metrics.report(probabilities, labels, GROUPS, np.array(thresholds), mask)

    def f1(scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], threshold: float) -> float:
        found = naive_f1(scores, truth, threshold)
        return float(found) if found is not None and truth.any() else math.nan

    fixed = [f1(scores, truth, 0.5) for scores, truth in columns(batch)]
    tuned = [f1(*column, threshold) for column, threshold in zip(columns(batch), thresholds, strict=True)]
    assert report.f1 == pytest.approx(fixed, nan_ok=True, abs=1e-12)
    assert report.f1_tuned == pytest.approx(tuned, nan_ok=True, abs=1e-12)
    assert report.macro_f1 == pytest.approx(mean(fixed), nan_ok=True, abs=1e-12)
    assert report.macro_f1_tuned == pytest.approx(mean(tuned), nan_ok=True, abs=1e-12)


@given(batches())
def test_of1_is_the_f1_of_all_pairs_at_once(batch: Batch) -> None:
    probabilities, labels, mask = batch
    of1 = metrics.report(probabilities, labels, GROUPS, mask=mask).of1
    expected = naive_f1(probabilities[mask], labels[mask], 0.5)
    assert of1 == pytest.approx(math.nan if expected is None else float(expected), nan_ok=True, abs=1e-12)


@given(batches())
def test_one_class_alone_is_measured_as_beside_others(batch: Batch) -> None:
    probabilities, labels, mask = batch
    everything = metrics.report(probabilities, labels, GROUPS, np.full(C, 0.3), mask)
    for c in range(C):
        alone = metrics.report(probabilities[:, [c]], labels[:, [c]], {"many": [0]}, np.full(1, 0.3), mask[:, [c]])
        for name in ("auc", "average_precision", "f1", "f1_tuned"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(everything, name)[c : c + 1])
        expected = naive_f1(*columns(batch)[c], 0.5)
        assert alone.of1 == pytest.approx(math.nan if expected is None else float(expected), nan_ok=True)


@given(batches())
def test_no_threshold_is_better_on_the_data_it_was_tuned_on(batch: Batch) -> None:
    """Of all candidates, F1 as fractions, so that ties are ties; the highest of the best is taken."""
    probabilities, labels, mask = batch
    thresholds = by_class.tune_thresholds(probabilities, labels, mask)
    for c, (scores, truth) in enumerate(columns(batch)):
        if not truth.any():
            assert thresholds[c] == 0.5
            continue
        f1 = {t: naive_f1(scores, truth, t) or Fraction(0) for t in {0.0, 0.5, 1.0, *scores.tolist()}}
        best = max(f1.values())
        assert thresholds[c] == max(t for t in scores.tolist() if f1[t] == best)


@given(batches(), st.integers(2, 20))
def test_calibration_error_equals_scikit_learns_curve_and_a_loop(batch: Batch, bins: int) -> None:
    probabilities, labels, mask = batch
    scores, truth = probabilities[mask].astype(np.float64), labels[mask]
    error = by_class.calibration_error(probabilities, labels, mask, bins)
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
    assert by_class.tune_thresholds(probabilities, labels).tolist() == [0.4, 0.5]


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
        by_class.class_auc(half, truth, truth[:1])


def test_a_report_cannot_change() -> None:
    report = metrics.report(np.full((2, C), 0.5), np.ones((2, C), dtype=bool), GROUPS)
    with pytest.raises(AttributeError):
        report.of1 = 1.0  # type: ignore[misc]
