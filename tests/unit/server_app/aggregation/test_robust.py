"""Aggregations that bear wrong sites, against NumPy and scikit-learn-free naive forms."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import Experiment, build
from common.errors import UserError
from server_app.aggregation.mean import RunningMean
from server_app.aggregation.robust import RobustAggregator, check_enough_sites, min_models
from server_app.aggregation.values import BadReplyError, check_values
from server_app.sites.discovery import SiteFacts

Tiny = Callable[..., Experiment]
REFERENCE = {"w": np.zeros((2, 3), np.float32), "n": np.array(4, np.int64)}


def replies(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"w": rng.standard_normal((2, 3)).astype(np.float32), "n": np.array(4, np.int64)} for _ in range(count)]


def combined(kind: str, given_replies: list[dict[str, np.ndarray]], **keys: Any) -> dict[str, np.ndarray]:
    values = {"aggregation": kind, "max-step": None, **{key.replace("_", "-"): value for key, value in keys.items()}}
    collected = RobustAggregator(REFERENCE, build(values))
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


@pytest.mark.parametrize("kind", ["mean", "median"])
def test_a_step_beyond_many_times_the_models_norm_is_refused(kind: str) -> None:
    """One reply of 1e9 everywhere drags the mean so far that every other site diverges; training moves far less."""
    reference = {"w": np.ones((2, 8), np.float32), "n": np.array(4, np.int64)}  # norm 4
    experiment = build({"aggregation": kind, "max-step": 2})
    mean = RunningMean(reference, None, 2) if kind == "mean" else RobustAggregator(reference, experiment)
    step = np.float32(10 / 4)  # 2 · (4 + 1) = 10 over 16 entries
    assert mean.add({"w": reference["w"] + step, "n": np.array(10**8, np.int64)}, 1) == pytest.approx(10)
    with pytest.raises(BadReplyError, match=r"it moved 10\.1 from what was sent, where max-step allows 10"):
        mean.add({"w": reference["w"] + step * np.float32(1.01), "n": np.array(4, np.int64)}, 1)
    assert mean.weight == 1


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_refused_in_every_precision(kind: type[np.floating[Any]], value: float) -> None:
    check_values("w", np.full(3, 6e4, kind))
    with pytest.raises(BadReplyError, match="w: a value is not finite"):
        check_values("w", np.array([1, value, 2], kind))


@pytest.mark.parametrize(
    ("kind", "keys", "needed"),
    [
        ("mean", {}, 0),
        ("median", {}, 3),
        *(("trimmed-mean", {"trimmed-share": share}, n) for share, n in ((0, 0), (0.2, 5), (0.3, 4), (0.49, 3))),
        *(("multi-krum", {"wrong-sites": wrong}, n) for wrong, n in ((0, 0), (1, 5), (2, 7))),
    ],
)
def test_with_fewer_models_an_aggregation_bears_no_wrong_one(kind: str, keys: dict[str, Any], needed: int) -> None:
    experiment = build({"aggregation": kind, **keys})
    assert min_models(experiment) == needed
    sites = {str(i): SiteFacts(i, 5 if i < needed else 0, 5) for i in range(needed + 2)}
    check_enough_sites(experiment, sites)
    if needed:
        del sites["0"]
        with pytest.raises(UserError, match=f"among {needed} or more, and {needed - 1} have training images"):
            check_enough_sites(experiment, sites)
        sites["0"] = SiteFacts(0, 5, 5, aggregation_weight=0)  # has images now, and had none when it first took part
        with pytest.raises(UserError, match=f"{needed - 1} have training images"):
            check_enough_sites(experiment, sites)
    if kind == "trimmed-mean" and needed:  # one is cut off at each end, and with one reply fewer none would be
        assert int(keys["trimmed-share"] * needed) == 1 and int(keys["trimmed-share"] * (needed - 1)) == 0


def test_multi_krum_is_the_mean_of_all_but_the_wrong() -> None:
    sound = replies(6)
    wrong = {"w": np.full((2, 3), 50, np.float32), "n": np.array(4, np.int64)}
    result = combined("multi-krum", [*sound[:3], wrong, *sound[3:]], wrong_sites=1)
    np.testing.assert_allclose(result["w"], np.mean([r["w"] for r in sound], axis=0), rtol=1e-5)


def test_multi_krum_tells_small_steps_of_a_large_model_apart() -> None:
    """Squares of whole models in single precision would drown them: ‖w‖² is 20,000 and a distance 0.001."""
    rng = np.random.default_rng(1)
    reference = {"w": rng.standard_normal(20_000).astype(np.float32)}
    common = 0.01 * rng.standard_normal(20_000) / math.sqrt(20_000)  # what all sound sites learn: a step of 0.01
    for attacker in range(10):
        steps = [common + 0.005 * rng.standard_normal(20_000) / math.sqrt(20_000) for _ in range(10)]
        steps[attacker] = -3 * common
        collected = RobustAggregator(
            reference, build({"aggregation": "multi-krum", "wrong-sites": 1, "max-step": None})
        )
        for step in steps:
            collected.add({"w": (reference["w"] + step).astype(np.float32)}, 5)
        sound = [reference["w"] + step for site, step in enumerate(steps) if site != attacker]
        np.testing.assert_allclose(collected.mean()["w"], np.mean(sound, axis=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_site_does_not_choose_the_order_of_its_layers(names: tuple[str, str]) -> None:
    """It sends the steps of two layers of one size swapped, and perhaps swaps their places in the message, too."""
    rng = np.random.default_rng(0)
    reference = {name: rng.standard_normal((20, 20)).astype(np.float32) for name in "ab"}
    step = {name: 0.01 * rng.standard_normal((20, 20)) for name in "ab"}
    collected = RobustAggregator(reference, build({"aggregation": "multi-krum", "wrong-sites": 1}))
    sound = []
    for _ in range(6):
        noise = 0.002 * rng.standard_normal((20, 20))
        sound.append({n: (reference[n] + step[n] + noise).astype(np.float32) for n in "ab"})
        collected.add(sound[-1], 5)
    other = {"a": "b", "b": "a"}
    collected.add({n: (reference[n] + step[other[n]]).astype(np.float32) for n in names}, 5)
    for name in "ab":
        expected = np.mean([reply[name] for reply in sound], axis=0)
        np.testing.assert_allclose(collected.mean()[name], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["mean", "median"])
def test_a_reply_that_moved_too_far_is_drawn_back(kind: str) -> None:
    reference = {"w": np.ones((2, 3), np.float32), "n": np.array(4, np.int64)}
    experiment = build({"aggregation": kind, "clip-norm": 0.5})
    mean = RunningMean(reference, 0.5) if kind == "mean" else RobustAggregator(reference, experiment)
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
    collected = RobustAggregator(REFERENCE, build({"aggregation": kind}))
    bad = {"w": np.full((2, 3), np.nan, np.float32), "n": np.array(4, np.int64)}
    with pytest.raises(BadReplyError, match="not finite"):
        collected.add(bad, 1)
    assert np.array_equal(collected.mean()["w"], REFERENCE["w"])
