"""Multi-label partitions: what each rule promises, supports, reports, errors."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.federation.multilabel_partition import MultilabelPartition, Rule, choose_supports, deal
from common.errors import UserError

SEEDS = st.integers(0, 2**31)
RULES = st.sampled_from(["strict", "mask"])


@st.composite
def label_tables(draw: st.DrawFn, max_images: int = 120) -> np.ndarray:
    """Labels [N, C]: co-occurring, often with label-free images and classes that no image has."""
    generator = np.random.default_rng(draw(SEEDS))
    shape = draw(st.integers(0, max_images)), draw(st.integers(2, 8))
    return generator.random(shape) < generator.choice([0.0, 0.05, 0.2, 0.6], shape[1])


def feasible(classes: int, sites: int, missing: float) -> bool:
    kept = classes - round(missing * classes)
    return kept >= 1 and kept * sites >= min(2, sites) * classes


def dealt(labels: np.ndarray, sites: int, rule: Rule, seed: int, **options: float) -> MultilabelPartition:
    values = {"alpha": 0.5, "missing_classes": 0.0, "min_site_size": 0} | options
    return deal(np.arange(len(labels)) * 3 + 1, labels, sites, rule=rule, seed=seed, **values)  # type: ignore[arg-type]


@given(st.integers(2, 30), st.integers(1, 20), st.floats(0, 0.99), SEEDS)
def test_supports_are_equally_large_and_every_class_has_two_sites(
    classes: int, sites: int, missing: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    if not feasible(classes, sites, missing):
        with pytest.raises(UserError, match=r"missing-classes = .* lower missing-classes to [\d.]+, or raise sites"):
            choose_supports(classes, sites, missing, generator)
        return
    supports = choose_supports(classes, sites, missing, generator)
    assert supports.shape == (sites, classes)
    assert (supports.sum(axis=1) == classes - round(missing * classes)).all()
    assert supports.sum(axis=0).min() >= min(2, sites)
    assert np.array_equal(supports, choose_supports(classes, sites, missing, np.random.default_rng(seed)))


@given(st.integers(2, 30), st.integers(1, 20))
def test_the_share_that_an_error_names_is_possible(classes: int, sites: int) -> None:
    with pytest.raises(UserError) as caught:
        choose_supports(classes, sites, 0.999, np.random.default_rng(0))
    named = float(str(caught.value).split("lower missing-classes to ")[1].split(",")[0])
    choose_supports(classes, sites, named, np.random.default_rng(0))


@given(
    labels=label_tables(),
    sites=st.integers(1, 12),
    alpha=st.sampled_from([0.01, 0.1, 1.0, 100.0]),
    missing=st.sampled_from([0.0, 0.3, 0.5, 0.7]),
    rule=RULES,
    seed=SEEDS,
)
def test_every_rule_keeps_its_promises(
    labels: np.ndarray, sites: int, alpha: float, missing: float, rule: Rule, seed: int
) -> None:
    if not feasible(labels.shape[1], sites, missing):
        return
    part = dealt(labels, sites, rule, seed, alpha=alpha, missing_classes=missing)
    rows = np.arange(len(labels)) * 3 + 1
    assert len(part.rows) == sites
    together = np.concatenate(part.rows)
    assert len(np.unique(together)) == len(together)  # no image twice
    assert np.isin(together, rows).all()
    for site_rows, support, visible in zip(part.rows, part.supports, part.visible, strict=True):
        assert (np.diff(site_rows) > 0).all()
        for image in labels[(site_rows - 1) // 3]:
            if rule == "strict":
                assert not (image & ~support).any()
            else:
                assert (image & support).any() or not image.any()
        assert np.array_equal(visible, support) if rule == "mask" else visible.all()
    for image in labels[(np.setdiff1d(rows, together) - 1) // 3]:  # the dropped fit nowhere
        assert rule == "strict"
        assert (image & ~part.supports).any(axis=1).all()


@given(label_tables(), st.integers(1, 8), st.sampled_from([0.0, 0.4]), RULES, SEEDS)
def test_the_report_equals_a_count_by_hand(
    labels: np.ndarray, sites: int, missing: float, rule: Rule, seed: int
) -> None:
    if not feasible(labels.shape[1], sites, missing):
        return
    part = dealt(labels, sites, rule, seed, missing_classes=missing)
    known = [c for c in range(labels.shape[1]) if labels[:, c].any()]
    held: list[set[int]] = []
    hidden = shown = 0
    for site_rows, visible in zip(part.rows, part.visible, strict=True):
        held.append(set())
        for image in labels[(site_rows - 1) // 3]:
            for c in np.flatnonzero(image).tolist():
                hidden, shown = hidden + (not visible[c]), shown + 1
                held[-1] |= {c} if visible[c] else set()
    report = part.report
    assert report.missing_by_site == pytest.approx([1 - len(h) / len(known) if known else 0 for h in held])
    assert report.missing == pytest.approx(sum(report.missing_by_site) / sites)
    assert report.missing_asked == pytest.approx(round(missing * labels.shape[1]) / labels.shape[1])
    assert report.dropped == pytest.approx(1 - sum(map(len, part.rows)) / len(labels) if len(labels) else 0)
    assert report.hidden == pytest.approx(hidden / shown if shown else 0)
    homes = min(2, sites)
    assert report.lonely_classes == tuple(c for c in known if sum(c in h for h in held) < homes)
    if rule == "mask":
        assert report.dropped == 0
    else:
        assert report.hidden == 0
    json.dumps(report.as_json(), allow_nan=False)


@given(st.integers(2, 7), st.integers(2, 12), st.sampled_from([0.01, 0.1, 10.0]), st.floats(0, 0.8), RULES, SEEDS)
def test_a_class_with_two_images_lives_at_two_sites_however_skewed(
    classes: int, sites: int, alpha: float, missing: float, rule: Rule, seed: int
) -> None:
    if not feasible(classes, sites, missing):
        return
    labels = np.repeat(np.eye(classes, dtype=bool), np.arange(2, 2 + classes), axis=0)
    part = dealt(labels, sites, rule, seed, alpha=alpha, missing_classes=missing)
    assert part.report.lonely_classes == ()
    assert part.report.dropped == 0
    assert part.report.missing >= part.report.missing_asked - 1e-12


@given(label_tables(60), st.integers(1, 6), st.integers(0, 8), RULES, SEEDS)
def test_sites_have_the_minimum_or_the_error_says_what_to_change(
    labels: np.ndarray, sites: int, minimum: int, rule: Rule, seed: int
) -> None:
    try:
        part = dealt(labels, sites, rule, seed, alpha=1.0, min_site_size=minimum)
    except UserError as error:
        assert "lower min-site-size" in str(error)
        assert minimum * sites > 0.3 * len(labels)  # only where it is tight
        return
    assert min(map(len, part.rows)) >= minimum


@given(label_tables(), RULES, SEEDS)
def test_a_seed_decides_everything(labels: np.ndarray, rule: Rule, seed: int) -> None:
    one, same = (dealt(labels, 5, rule, seed, missing_classes=0.4) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one.rows, same.rows, strict=True))
    assert np.array_equal(one.supports, same.supports) and one.report == same.report


def test_other_seeds_deal_otherwise() -> None:
    labels = np.random.default_rng(0).random((200, 6)) < 0.3
    one, other = (dealt(labels, 4, "mask", seed, missing_classes=0.3) for seed in (0, 1))
    assert not np.array_equal(one.rows[0], other.rows[0])
    assert not np.array_equal(one.supports, other.supports)


def test_small_alpha_is_skewed_and_large_alpha_even() -> None:
    labels = np.repeat(np.eye(5, dtype=bool), 300, axis=0)
    spread = []
    for alpha in (0.05, 1e6):
        part = dealt(labels, 6, "strict", 0, alpha=alpha)
        counts = np.stack([labels[(rows - 1) // 3].sum(axis=0) for rows in part.rows])
        assert counts.sum(axis=0).tolist() == [300] * 5
        spread.append(counts.std())
    assert spread[0] > 5 * spread[1]
    assert spread[1] < 10  # chance alone: √(300 · 1/6 · 5/6) ≈ 6.5


def test_an_image_with_two_labels_follows_the_mean_of_their_proportions() -> None:
    single, both = np.repeat(np.eye(2, dtype=bool), 4000, axis=0), np.ones((4000, 2), dtype=bool)
    labels = np.vstack([single, both])
    part = dealt(labels, 3, "mask", 2, alpha=1.0)
    kinds = (np.arange(12_000) // 4000)[None]
    counts = np.stack([np.bincount(kinds[0, (rows - 1) // 3], minlength=3) for rows in part.rows])
    assert np.abs(counts[:, 2] - counts[:, :2].mean(axis=1)).max() < 150


def test_label_free_images_go_anywhere_and_nothing_is_hidden_without_missing_classes() -> None:
    labels = np.zeros((300, 4), dtype=bool)
    for rule in ("strict", "mask"):
        part = dealt(labels, 3, rule, 0, alpha=100.0, missing_classes=0.25)  # type: ignore[arg-type]
        assert min(map(len, part.rows)) > 50 and part.report.dropped == 0
        assert part.report.missing == 0 and part.report.lonely_classes == ()
    full = dealt(np.random.default_rng(0).random((100, 4)) < 0.5, 3, "mask", 0)
    assert full.report.hidden == 0 and full.visible.all()


def test_images_that_fit_nowhere_are_dropped_under_strict_and_hidden_in_part_under_mask() -> None:
    labels = np.ones((50, 4), dtype=bool)  # every image has all classes, no site supports them all
    strict, masked = (dealt(labels, 4, rule, 0, missing_classes=0.5) for rule in ("strict", "mask"))  # type: ignore[arg-type]
    assert strict.report.dropped == 1 and sum(map(len, strict.rows)) == 0
    assert masked.report.dropped == 0 and masked.report.hidden == 0.5
    assert strict.report.lonely_classes == (0, 1, 2, 3) and masked.report.lonely_classes == ()


def test_strict_prefers_a_draw_that_leaves_every_class_at_two_sites() -> None:
    shares = np.array([0.5, 0.4, 0.3, 0.1, 0.05, 0.03])  # of pairs, few fit anywhere: the first draw does it seldom
    labels = [np.random.default_rng(seed).random((120, 6)) < shares for seed in range(15)]
    parts = [dealt(table, 4, "strict", seed, alpha=0.1, missing_classes=0.5) for seed, table in enumerate(labels)]
    assert sum(not part.report.lonely_classes for part in parts) >= 10


def test_impossible_requests_are_named(error_of: Callable[[Callable[[], object]], str]) -> None:
    labels = np.eye(4, dtype=bool).repeat(10, axis=0)
    message = error_of(lambda: dealt(labels, 4, "mask", 0, min_site_size=11))
    assert "4 sites need 44 training images and there are 40; lower min-site-size or sites" in message
    message = error_of(lambda: dealt(labels, 3, "mask", 0, missing_classes=0.5))
    assert (
        "leaves each of 3 sites 2 of 4 classes; every class needs 2 of the sites, so each of them 3 classes" in message
    )
    assert "lower missing-classes to 0.25, or raise sites" in message
    message = error_of(lambda: dealt(labels, 1, "mask", 0, missing_classes=0.5))
    assert "every class needs 1 of the sites, so each of them 4 classes" in message
    message = error_of(lambda: dealt(labels, 5, "strict", 0, alpha=0.01, min_site_size=8))
    assert "in 200 draws with 5 sites, dirichlet = 0.01" in message and "had at most" in message
