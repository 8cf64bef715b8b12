"""The streaming mean equals a naive weighted mean, and nothing bad gets into it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from server_app.aggregation.mean import RunningMean
from server_app.aggregation.values import BadReplyError

VALUES = st.floats(-1e6, 1e6, width=32)


@given(
    replies=st.lists(
        st.tuples(arrays(np.float32, (3, 2), elements=VALUES), st.integers(1, 10_000)), min_size=1, max_size=8
    ),
    tracked=st.integers(0, 10**9),
)
def test_equals_a_naive_weighted_mean(replies: list[tuple[np.ndarray, int]], tracked: int) -> None:
    mean = RunningMean({"w": replies[0][0], "n": np.array(0, dtype=np.int64)})
    for array, weight in replies:
        mean.add({"w": array, "n": np.array(tracked, dtype=np.int64)}, weight)
    result = mean.mean()
    total = sum(weight for _, weight in replies)
    naive = np.zeros((3, 2))
    for i in range(3):
        for j in range(2):
            naive[i, j] = sum(weight * float(array[i, j]) for array, weight in replies) / total
    scale = max(1.0, max(float(np.abs(a).max()) for a, _ in replies))
    np.testing.assert_allclose(result["w"], naive, rtol=2e-7, atol=scale * 1e-7)
    assert result["w"].dtype == np.float32
    assert result["n"].dtype == np.int64 and result["n"].shape == () and result["n"] == tracked


def test_the_order_of_replies_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    replies = [(rng.standard_normal((40, 30)).astype(np.float32), int(n)) for n in rng.integers(1, 500, 20)]
    results = []
    for order in (replies, replies[::-1]):
        mean = RunningMean({"w": replies[0][0]})
        for array, weight in order:
            mean.add({"w": array}, weight)
        results.append(mean.mean()["w"])
    np.testing.assert_array_equal(*results)


REFERENCE = {"w": np.zeros((2, 3), np.float32), "n": np.array(1, np.int64)}
GOOD = {"w": np.ones((2, 3), np.float32), "n": np.array(5, np.int64)}


@pytest.mark.parametrize(
    ("change", "weight", "words"),
    [
        ({"w": np.full((2, 3), np.nan, np.float32)}, 1, "w: a value is not finite"),
        ({"w": np.full((2, 3), np.inf, np.float32)}, 1, "w: a value is not finite"),
        ({"w": np.ones((1,), np.float32)}, 1, r"w: float32\(1,\) where float32\(2, 3\) is needed"),
        ({"w": np.ones((2, 3), np.float64)}, 1, "w: float64"),
        ({"extra": np.ones(1)}, 1, "names differ.*extra"),
        ({}, 0, "weight 0"),
        ({}, -3, "weight -3"),
    ],
)
def test_a_bad_reply_is_refused_and_changes_nothing(change: dict, weight: int, words: str) -> None:
    mean = RunningMean(REFERENCE)
    mean.add(GOOD, 10)
    with pytest.raises(BadReplyError, match=words):
        mean.add(GOOD | change, weight)
    np.testing.assert_array_equal(mean.mean()["w"], GOOD["w"])
    assert mean.weight == 10


def test_without_replies_the_model_stays_as_it_was() -> None:
    assert RunningMean(REFERENCE).mean()["w"] is REFERENCE["w"]
