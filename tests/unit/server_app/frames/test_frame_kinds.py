"""Kinds of frame: the zero-padded one, and that `etf` is the same after a random rotation."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from server_app.frames.build import etf, measure
from server_app.frames.padded import padded_etf


@given(classes=st.integers(2, 40), spare=st.integers(0, 20), norm=st.sampled_from([0.1, 1.0, 7.0]))
def test_padded_frame_is_an_etf_in_its_first_features(classes: int, spare: int, norm: float) -> None:
    frame = padded_etf(classes, classes + spare, norm)
    quality = measure(frame)
    assert frame.shape == (classes, classes + spare) and frame.dtype == torch.float32
    assert (frame[:, classes:] == 0).all()
    assert torch.equal(frame[:, :classes], frame[:, :classes].T)
    assert quality.norm_mean == pytest.approx(norm, rel=1e-6)
    assert quality.norm_variance < 1e-12 * norm**2
    assert quality.angle_mean == pytest.approx(math.degrees(math.acos(-1 / (classes - 1))), abs=1e-4)
    assert quality.angle_variance < 1e-9
    assert torch.equal(frame, padded_etf(classes, classes + spare, norm))  # nothing is drawn


@pytest.mark.parametrize(("classes", "dim"), [(2, 2), (7, 7), (10, 64)])
def test_the_etf_of_a_run_is_the_padded_one_rotated_at_random(classes: int, dim: int) -> None:
    padded = padded_etf(classes, dim).double()
    rotations = []
    for seed in (0, 1):
        rotated = etf(classes, dim, torch.Generator().manual_seed(seed)).double()
        left, _, right = torch.linalg.svd(padded.T @ rotated)  # the nearest rotation (Procrustes)
        rotations.append(left @ right)
        torch.testing.assert_close(padded @ rotations[-1], rotated, rtol=0, atol=1e-6)
        assert (rotated != 0).all()
    frames = [padded @ rotation for rotation in rotations]
    assert not torch.allclose(*frames, atol=0.01)


def test_too_few_features_or_classes_are_refused() -> None:
    messages: list[str] = []
    calls: list[Callable[[], object]] = [lambda: padded_etf(10, 9), lambda: padded_etf(1, 9)]
    for call in calls:
        with pytest.raises(UserError) as caught:
            call()
        messages.append(str(caught.value))
    assert "10 classes needs as many features, the backbone has 9" in messages[0]
    assert "at least two classes" in messages[1]
