"""Long-tail totals against the published ones, and the formula against a plain loop."""

import numpy as np
import pytest

from common.data.federation.longtail import long_tail_counts, long_tail_rows


@pytest.mark.parametrize(
    ("classes", "per_class", "imbalance", "total"),
    [(10, 5000, 50, 13996), (10, 5000, 100, 12406), (100, 500, 50, 12608), (100, 500, 100, 10847)],
)
def test_published_totals(classes: int, per_class: int, imbalance: float, total: int) -> None:
    available = np.full(classes, per_class)
    counts = long_tail_counts(available, None, imbalance)
    assert counts.sum() == total
    assert counts[0] == per_class
    assert counts[-1] == per_class // imbalance
    labels = np.repeat(np.arange(classes), per_class)
    rows = long_tail_rows(labels, [str(c) for c in range(classes)], None, imbalance, seed=3)
    assert np.array_equal(np.bincount(labels[rows]), counts)


def test_counts_follow_the_formula() -> None:
    expected = [int(1500 * 30 ** (-c / 6)) for c in range(7)]
    assert long_tail_counts(np.full(7, 6000), 1500, 30).tolist() == expected
