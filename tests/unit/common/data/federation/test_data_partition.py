"""Long tail and partitions: invariants, determinism, errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.federation import partition
from common.data.federation.longtail import long_tail_counts, long_tail_rows
from common.data.sources.dataset import padded_names
from common.errors import UserError

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=200).map(np.array)
SEEDS = st.integers(0, 2**31)


def assert_partition(dealt: tuple[np.ndarray, ...], rows: np.ndarray) -> None:
    together = np.concatenate(dealt)
    assert len(together) == len(rows)
    assert np.array_equal(np.sort(together), rows)
    assert all(np.all(np.diff(site_rows) > 0) for site_rows in dealt)


@given(LABELS, st.integers(1, 40), st.floats(0.01, 100), SEEDS)
def test_dirichlet_is_a_partition(labels: np.ndarray, sites: int, alpha: float, seed: int) -> None:
    rows = np.arange(len(labels)) * 3 + 1  # rows of a larger set
    dealt = partition.dirichlet(rows, labels, sites, alpha, 0, seed)
    assert len(dealt) == sites
    assert_partition(dealt, rows)
    again = partition.dirichlet(rows, labels, sites, alpha, 0, seed)
    assert all(np.array_equal(a, b) for a, b in zip(dealt, again, strict=True))


@given(st.integers(1, 8), st.integers(0, 12), SEEDS)
def test_dirichlet_keeps_the_minimum(sites: int, minimum: int, seed: int) -> None:
    labels = np.repeat(np.arange(5), 60)
    dealt = partition.dirichlet(np.arange(300), labels, sites, 1.0, minimum, seed)
    assert min(len(rows) for rows in dealt) >= minimum
    assert_partition(dealt, np.arange(300))


@given(st.integers(0, 200), st.integers(1, 30), SEEDS)
def test_iid_is_an_even_partition(size: int, sites: int, seed: int) -> None:
    dealt = partition.iid(np.arange(size), sites, 0, seed)
    assert_partition(dealt, np.arange(size))
    sizes = [len(rows) for rows in dealt]
    assert len(sizes) == sites
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(0, 6), min_size=1, max_size=100).map(np.array))
def test_natural_gives_each_site_its_own(row_sites: np.ndarray) -> None:
    rows = np.arange(len(row_sites)) * 2
    dealt = partition.natural(rows, row_sites, [f"s{i}" for i in range(7)], 0)
    assert len(dealt) == 7
    for site, site_rows in enumerate(dealt):
        assert np.array_equal(site_rows, rows[row_sites == site])


def test_other_seeds_deal_otherwise() -> None:
    labels = np.repeat(np.arange(4), 50)
    rows = np.arange(200)
    for deal in (
        lambda seed: partition.dirichlet(rows, labels, 5, 1.0, 0, seed),
        lambda seed: partition.iid(rows, 5, 0, seed),
        lambda seed: (long_tail_rows(labels, list("abcd"), None, 10, seed),),
    ):
        assert any(not np.array_equal(a, b) for a, b in zip(deal(0), deal(1), strict=True))


def test_small_alpha_is_skewed_and_large_alpha_even() -> None:
    labels = np.repeat(np.arange(10), 200)
    spread = []
    for alpha in (0.05, 100.0):
        dealt = partition.dirichlet(np.arange(2000), labels, 10, alpha, 0, 0)
        counts = np.stack([np.bincount(labels[rows], minlength=10) for rows in dealt])
        assert counts.sum(axis=0).tolist() == [200] * 10
        spread.append(counts.std())
    assert spread[0] > 5 * spread[1]


def test_impossible_minimum_is_named() -> None:
    rows, labels = np.arange(100), np.zeros(100, np.int64)
    with pytest.raises(UserError, match=r"min-site-size = 11: 10 sites need 110 .* there are 100"):
        partition.dirichlet(rows, labels, 10, 1.0, 11, 0)
    with pytest.raises(UserError, match=r"1000 draws with 10 sites and dirichlet = 0.1 .* at most \d+ images"):
        partition.dirichlet(rows, labels, 10, 0.1, 10, 0)
    with pytest.raises(UserError, match="10 sites need 110"):
        partition.iid(rows, 10, 11, 0)
    with pytest.raises(UserError, match="site 'b' has 1 training images"):
        partition.natural(np.arange(3), np.array([0, 0, 1]), ["a", "b"], 2)


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=20).filter(any).map(np.array),
    st.none() | st.integers(1, 400),
    st.floats(1, 200),
)
def test_long_tail_is_monotone_with_its_ratio(available: np.ndarray, head: int | None, imbalance: float) -> None:
    counts = long_tail_counts(available, head, imbalance)
    assert (counts <= available).all()
    if imbalance == 1 and head is None:
        assert np.array_equal(counts, available)
        return
    largest = head or int(available.max())
    wanted = long_tail_counts(np.full(len(available), largest), head or largest, imbalance)
    assert (np.diff(wanted) <= 0).all()
    assert wanted[0] == largest
    if len(available) > 1:
        assert abs(wanted[-1] - largest / imbalance) <= 1
    assert np.array_equal(counts, np.minimum(wanted, available))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=120).map(np.array), st.floats(1, 8), SEEDS)
def test_long_tail_rows_are_rows_of_their_class(labels: np.ndarray, imbalance: float, seed: int) -> None:
    head = 16  # large enough that no class vanishes at a ratio of 8
    rows = long_tail_rows(labels, list("abcd"), head, imbalance, seed)
    expected = long_tail_counts(np.bincount(labels, minlength=4), head, imbalance)
    assert np.array_equal(np.bincount(labels[rows], minlength=4), expected)
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, long_tail_rows(labels, list("abcd"), head, imbalance, seed))


def test_a_tail_that_loses_a_class_is_refused() -> None:
    with pytest.raises(UserError, match=r"imbalance-factor = 100 leaves no image of class 'c' .* has 50"):
        long_tail_rows(np.repeat([0, 1, 2], 60), ["a", "b", "c"], 50, 100, 0)


def test_site_names_sort_by_number() -> None:
    assert padded_names("site", np.arange(3)) == ("site-00", "site-01", "site-02")
    names = padded_names("site", np.arange(120))
    assert names[7] == "site-007"
    assert list(names) == sorted(names)
