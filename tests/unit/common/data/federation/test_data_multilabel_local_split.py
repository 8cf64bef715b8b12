"""Test images of sites where an image may carry several labels: who may have which, and how likely."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.federation.multilabel_local_split import multilabel_test_rows, site_chances
from common.data.federation.multilabel_partition import MultilabelPartition, Rule, deal, everywhere

SEEDS = st.integers(0, 2**31)


def made(seed: int, missing: float, rule: Rule) -> tuple[np.ndarray, np.ndarray, MultilabelPartition]:
    generator = np.random.default_rng(seed)
    chances = generator.choice([0.0, 0.05, 0.3, 0.6], 5)
    train, test = (generator.random((count, 5)) < chances for count in (80, 60))
    part = deal(np.arange(80), train, int(generator.integers(4, 8)), 0.5, missing, rule, 0, seed)
    return train, test, part


def naive(train: np.ndarray, image: np.ndarray, part: MultilabelPartition, rule: Rule) -> list[float]:
    """The chances of one image, label by label and site by site."""
    labels = np.flatnonzero(image).tolist()
    chances = []
    for k, rows in enumerate(part.rows):
        supported = [part.supports[k, c] for c in labels]
        if labels and not (all(supported) if rule == "strict" else any(supported)):
            chances.append(0.0)
            continue
        shares = []
        for c in labels:
            held = [int(train[r, c].sum()) * bool(v[c]) for r, v in zip(part.rows, part.visible, strict=True)]
            shares.append(held[k] / sum(held) if sum(held) else 0.0)
        if not labels:
            free = [int((~train[r].any(axis=1)).sum()) for r in part.rows]
            shares = [free[k] / sum(free) if sum(free) else 0.0]
        chances.append(sum(shares) / len(shares))
        assert len(rows) or not chances[-1]
    total = sum(chances)
    return [chance / total for chance in chances] if total else chances


@given(SEEDS, st.sampled_from([0.0, 0.2, 0.4]), st.sampled_from(["strict", "mask"]))
def test_chances_are_those_of_plain_loops(seed: int, missing: float, rule: Rule) -> None:
    train, test, part = made(seed, missing, rule)
    chances = site_chances(train, test, part, rule)
    assert np.allclose(chances, [naive(train, image, part, rule) for image in test])


@given(SEEDS, st.sampled_from([0.0, 0.2, 0.4]), st.sampled_from(["strict", "mask"]))
def test_every_image_with_a_chance_goes_to_one_site_that_may_have_it(seed: int, missing: float, rule: Rule) -> None:
    train, test, part = made(seed, missing, rule)
    rows = multilabel_test_rows(train, test, part, rule, seed)
    chances = site_chances(train, test, part, rule)
    assert len(rows) == len(part.rows)
    together = np.concatenate(rows)
    assert np.array_equal(np.sort(together), np.flatnonzero(chances.any(axis=1)))
    for k, own in enumerate(rows):
        assert (np.diff(own) > 0).all() and (chances[own, k] > 0).all()
        if rule == "strict":
            assert not (test[own] & ~part.supports[k]).any()
        else:
            assert ((test[own] & part.supports[k]).any(axis=1) | ~test[own].any(axis=1)).all()
    again = multilabel_test_rows(train, test, part, rule, seed)
    assert all(np.array_equal(a, b) for a, b in zip(rows, again, strict=True))


def test_many_images_come_in_the_proportions_of_the_chances() -> None:
    train = np.array([[1, 0]] * 6 + [[0, 1]] * 3 + [[0, 0]] * 4, bool)
    part = everywhere((np.array([0, 1, 2, 3, 6, 9]), np.array([4, 5, 7, 8, 10, 11, 12])), train)
    kinds = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], bool)
    test = kinds.repeat(20_000, axis=0)
    rows = multilabel_test_rows(train, test, part, "mask", 0)
    first = np.bincount(rows[0] // 20_000, minlength=4) / 20_000
    assert first == pytest.approx([4 / 6, 1 / 3, (4 / 6 + 1 / 3) / 2, 1 / 4], abs=0.01)


def test_images_that_no_site_may_have_are_left_out() -> None:
    train = np.array([[1, 0, 0], [0, 1, 0]], bool)
    supports = np.array([[True, False, False], [False, True, False]])
    parts = (np.array([0]), np.array([1]))
    report = everywhere(parts, train).report
    test = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]], bool)
    strict = MultilabelPartition(parts, supports, np.ones((2, 3), bool), report)
    assert [rows.tolist() for rows in multilabel_test_rows(train, test, strict, "strict", 0)] == [[2], []]
    masked = MultilabelPartition(parts, supports, supports, report)
    first, second = (rows.tolist() for rows in multilabel_test_rows(train, test, masked, "mask", 0))
    assert sorted(first + second) == [0, 2] and 2 in first  # nobody trains on the third label, or on no label


def test_other_seeds_deal_otherwise() -> None:
    train, test, part = made(1, 0.2, "mask")
    one, other = (multilabel_test_rows(train, test, part, "mask", seed) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))
