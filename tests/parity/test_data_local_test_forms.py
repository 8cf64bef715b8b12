"""The two forms of the local test split against loops over exact fractions."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.data.federation.local_split import keep_classes_counts, paper_counts

COUNTS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), min_size=1, max_size=12)


@given(cells=COUNTS, others=st.integers(1, 3000))
def test_paper_form_equals_its_formula(cells: list[tuple[int, int]], others: int) -> None:
    train, available = (np.array(side) for side in zip(*cells, strict=True))
    total, tests = int(train.sum()) + others, int(available.sum())
    expected = [min(math.floor(Fraction(n, total) * tests), have) for n, have in cells]
    assert paper_counts(train, total, tests, available).tolist() == expected


@given(cells=COUNTS, others=st.integers(0, 3000))
def test_keep_classes_loses_none_and_keeps_the_shape(cells: list[tuple[int, int]], others: int) -> None:
    train, available = (np.array(side) for side in zip(*cells, strict=True))
    total, tests = int(train.sum()) + others, int(available.sum())
    counts = keep_classes_counts(train, max(total, 1), tests, available)
    assert (counts <= available).all()
    assert ((counts > 0) == ((train > 0) & (available > 0))).all()
    both = [(n, have) for n, have in cells if n and have]
    if not both:
        return
    factor = min([Fraction(1), *(Fraction(have * total, n * tests) for n, have in both)])
    for (n, have), count in zip(cells, counts.tolist(), strict=True):
        if n and have:
            wanted = Fraction(n * tests, total) * factor
            assert count == 1 or abs(count - wanted) <= Fraction(1, 2) + Fraction(1, 10**6)
