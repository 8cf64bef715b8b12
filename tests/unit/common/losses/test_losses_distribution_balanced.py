"""Distribution-balanced loss: its weights, its tolerance, counts at the edges."""

import pytest
import torch

from common.losses import bce, distribution_balanced

COUNTS = torch.tensor([1, 10, 100])


def weight_of(label_set: list[bool], label: int) -> float:
    """Return r̂ of one label: at z = 0 every slope is ±r̂/2."""
    logits = torch.zeros(1, 3, requires_grad=True)
    labels = torch.tensor([label_set])
    loss = distribution_balanced(logits, labels, COUNTS, 200, lam=1, kappa=0)
    (grad,) = torch.autograd.grad(loss, logits)
    return 2 * abs(grad[0, label].item())


def test_a_rare_label_weighs_more_than_its_common_companion() -> None:
    assert weight_of([True, False, False], 0) == pytest.approx(0.1 + torch.sigmoid(torch.tensor(7.0)).item())
    assert weight_of([True, False, True], 0) > 1 > 0.3 > weight_of([True, False, True], 2)


def test_an_image_without_labels_weighs_most() -> None:
    assert [weight_of([False] * 3, c) for c in range(3)] == pytest.approx([1.1] * 3)


def test_without_its_parts_it_is_the_binary_cross_entropy() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    plain = distribution_balanced(logits, logits > 1, COUNTS, 200, alpha=0.5, beta=0, lam=1, kappa=0)
    torch.testing.assert_close(plain, bce(logits, logits > 1))  # σ(0) + ½ = 1


def test_negatives_are_tolerated_sooner_than_positives_are_satisfied() -> None:
    logits = torch.tensor([[-1.0], [1.0]], requires_grad=True)
    labels = torch.tensor([[False], [True]])
    distribution_balanced(logits, labels, torch.tensor([50]), 100, beta=0, lam=5).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] * 20 < -logits.grad[1, 0]


def test_one_image_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least 2 are needed"):
        distribution_balanced(torch.zeros(1, 1), torch.tensor([[True]]), torch.tensor([1]), 1)
