"""Aggregations that bear wrong sites, against NumPy and scikit-learn-free naive forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import Experiment, build
from server_app.aggregation import RunningMean
from server_app.robust import Collected
from server_app.sites import BadReplyError

Tiny = Callable[..., Experiment]
REFERENCE = {"w": np.zeros((2, 3), np.float32), "n": np.array(4, np.int64)}


def replies(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"w": rng.standard_normal((2, 3)).astype(np.float32), "n": np.array(4, np.int64)} for _ in range(count)]


def combined(kind: str, given_replies: list[dict[str, np.ndarray]], **keys: Any) -> dict[str, np.ndarray]:
    values = {"aggregation": kind, **{key.replace("_", "-"): value for key, value in keys.items()}}
    collected = Collected(REFERENCE, build(values))
    for number, reply in enumerate(given_replies):
        collected.add(reply, number + 1)
    return collected.mean()


@given(count=st.integers(1, 9), seed=st.integers(0, 50))
def test_the_median_is_coordinate_wise(count: int, seed: int) -> None:
    given_replies = replies(count, seed)
    result = combined("median", given_replies)
    for i in range(2):
        for j in range(3):
            values = sorted(float(r["w"][i, j]) for r in given_replies)
            middle = (values[(count - 1) // 2] + values[count // 2]) / 2
            assert result["w"][i, j] == pytest.approx(middle, rel=1e-6)
    assert result["w"].dtype == np.float32 and result["n"] == 4 and result["n"].dtype == np.int64


@given(count=st.integers(1, 12), seed=st.integers(0, 50))
def test_the_trimmed_mean_leaves_out_both_ends(count: int, seed: int) -> None:
    given_replies = replies(count, seed)
    result, cut = combined("trimmed-mean", given_replies, trimmed_share=0.2), int(0.2 * count)
    for i in range(2):
        for j in range(3):
            values = sorted(float(r["w"][i, j]) for r in given_replies)[cut : count - cut]
            assert result["w"][i, j] == pytest.approx(sum(values) / len(values), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", ["median", "trimmed-mean", "multi-krum"])
def test_one_gigantic_reply_moves_the_result_little(kind: str) -> None:
    sound = replies(6)
    wrong = {"w": np.full((2, 3), 1e9, np.float32), "n": np.array(4, np.int64)}
    result = combined(kind, [*sound, wrong], trimmed_share=0.2, wrong_sites=1)
    assert np.abs(result["w"]).max() < 3
    mean = RunningMean(REFERENCE)
    for reply in [*sound, wrong]:
        mean.add(reply, 1)
    assert np.abs(mean.mean()["w"]).max() > 1e8


def test_multi_krum_is_the_mean_of_all_but_the_wrong() -> None:
    sound = replies(6)
    wrong = {"w": np.full((2, 3), 50, np.float32), "n": np.array(4, np.int64)}
    result = combined("multi-krum", [*sound[:3], wrong, *sound[3:]], wrong_sites=1)
    np.testing.assert_allclose(result["w"], np.mean([r["w"] for r in sound], axis=0), rtol=1e-5)


@pytest.mark.parametrize("kind", ["mean", "median"])
def test_a_reply_that_moved_too_far_is_drawn_back(kind: str) -> None:
    reference = {"w": np.ones((2, 3), np.float32), "n": np.array(4, np.int64)}
    experiment = build({"aggregation": kind, "clip-norm": 0.5})
    mean = RunningMean(reference, 0.5) if kind == "mean" else Collected(reference, experiment)
    far = {"w": reference["w"] + np.float32(100), "n": np.array(9, np.int64)}
    mean.add(far, 3)
    step = mean.mean()["w"] - reference["w"]
    assert np.linalg.norm(step) == pytest.approx(0.5, rel=1e-5) and (step > 0).all()
    assert mean.mean()["n"] == 9
    near = RunningMean(reference, 0.5)
    near.add({"w": reference["w"] + np.float32(0.1), "n": np.array(4, np.int64)}, 1)
    np.testing.assert_allclose(near.mean()["w"], 1.1, rtol=1e-6)


@pytest.mark.parametrize("kind", ["median", "trimmed-mean", "multi-krum"])
def test_replies_are_checked_as_for_the_mean_and_none_at_all_changes_nothing(kind: str) -> None:
    collected = Collected(REFERENCE, build({"aggregation": kind}))
    bad = {"w": np.full((2, 3), np.nan, np.float32), "n": np.array(4, np.int64)}
    with pytest.raises(BadReplyError, match="not finite"):
        collected.add(bad, 1)
    assert np.array_equal(collected.mean()["w"], REFERENCE["w"])
