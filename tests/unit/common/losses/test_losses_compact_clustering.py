"""Compact clustering: its minimum, what it ignores, a frozen frame."""

import math

import pytest
import torch

from common.losses import compact_clustering

FRAME = torch.eye(3, 5)
POSITIVE = torch.tensor([[True, False, True]])


def test_a_feature_on_its_class_vector_costs_next_to_nothing() -> None:
    features = 7 * FRAME.unsqueeze(0)
    rest = math.log1p(2 * math.exp(-1 / 0.07))
    assert compact_clustering(features, POSITIVE, FRAME).item() == pytest.approx(2 * rest, abs=1e-5)
    assert compact_clustering(features.roll(1, 1), POSITIVE, FRAME).item() > 2 / 0.07 - 1


def test_lengths_of_features_and_class_vectors_do_not_matter() -> None:
    features = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    labels = features[..., 0] > 0
    scaled = compact_clustering(9 * features, labels, 0.1 * FRAME)
    torch.testing.assert_close(scaled, compact_clustering(features, labels, FRAME))


def test_negatives_add_nothing() -> None:
    features = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    compact_clustering(features, POSITIVE, FRAME).backward()
    assert features.grad is not None and (features.grad[~POSITIVE] == 0).all()


def test_a_feature_of_zeros_has_no_direction() -> None:
    features = torch.zeros(1, 3, 5, requires_grad=True)
    loss = compact_clustering(features, POSITIVE, FRAME)
    loss.backward()
    assert loss.item() == pytest.approx(2 * math.log(3))
    assert features.grad is not None and (features.grad == 0).all()


def test_learned_class_vectors_get_their_gradient() -> None:
    vectors = FRAME.clone().requires_grad_()
    compact_clustering(torch.randn(2, 3, 5), POSITIVE.expand(2, 3), vectors).backward()
    assert vectors.grad is not None and vectors.grad.any()
