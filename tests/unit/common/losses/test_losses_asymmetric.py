"""Asymmetric loss: where it is other losses, its margin, its limits."""

import pytest
import torch

from common.losses import asymmetric, bce, focal

LOGITS = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
LABELS = LOGITS.roll(1, 0) > 0.5


def test_it_contains_the_binary_cross_entropy_and_the_focal_loss() -> None:
    plain = asymmetric(LOGITS, LABELS, gamma_positive=0, gamma_negative=0, margin=0)
    torch.testing.assert_close(plain, bce(LOGITS, LABELS))
    even = asymmetric(LOGITS, LABELS, gamma_positive=2, gamma_negative=2, margin=0)
    torch.testing.assert_close(even, focal(LOGITS, LABELS, gamma=2, alpha=None))


def test_negatives_below_the_margin_are_free() -> None:
    logits = torch.logit(torch.tensor([[0.01, 0.049]])).requires_grad_()
    loss = asymmetric(logits, torch.zeros(1, 2, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and logits.grad is not None and (logits.grad == 0).all()


def test_a_sure_mistake_without_a_margin_stays_finite() -> None:
    logits = torch.full((1, 1), 80.0, requires_grad=True)
    loss = asymmetric(logits, torch.tensor([[False]]), margin=0)
    loss.backward()
    assert loss.item() == pytest.approx(80)
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_a_focus_between_nothing_and_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gamma_negative = 0.5: must be 0 or at least 1"):
        asymmetric(LOGITS, LABELS, gamma_negative=0.5)
