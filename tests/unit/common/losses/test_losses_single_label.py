"""Losses of one label an image: against PyTorch, loops, and where a class takes no part."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from common.losses import focal_cross_entropy, smoothed_cross_entropy

LOGITS = 3 * torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smoothing_is_that_of_pytorch(smoothing: float) -> None:
    ours, theirs = (LOGITS.clone().requires_grad_() for _ in range(2))
    found, wanted = (
        smoothed_cross_entropy(ours, LABELS, smoothing),
        cross_entropy(theirs, LABELS, label_smoothing=smoothing),
    )
    torch.testing.assert_close(found, wanted)
    found.backward()
    wanted.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_without_smoothing_or_focus_it_is_the_cross_entropy() -> None:
    assert torch.equal(smoothed_cross_entropy(LOGITS, LABELS, 0.0), cross_entropy(LOGITS, LABELS))  # bit for bit
    torch.testing.assert_close(focal_cross_entropy(LOGITS, LABELS, 0.0), cross_entropy(LOGITS, LABELS))


def test_a_class_that_a_site_does_not_have_gets_no_share_and_no_slope() -> None:
    """As if there were only the other classes."""
    labels = torch.tensor([0, 1, 2, 0, 4, 0, 2])
    logits = (LOGITS + torch.tensor([0.5, 1, 2, -math.inf, 0])).requires_grad_()
    loss = smoothed_cross_entropy(logits, labels, 0.2)
    others = logits.detach()[:, [0, 1, 2, 4]].requires_grad_()
    expected = cross_entropy(others, labels.clamp(max=3), label_smoothing=0.2)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    assert logits.grad is not None and others.grad is not None
    torch.testing.assert_close(logits.grad[:, [0, 1, 2, 4]], others.grad)
    assert (logits.grad[:, 3] == 0).all()


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_the_focal_loss_is_its_formula(gamma: float) -> None:
    total = 0.0
    for logits, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        share = math.exp(logits[label]) / sum(math.exp(z) for z in logits)
        total -= (1 - share) ** gamma * math.log(share)
    assert focal_cross_entropy(LOGITS, LABELS, gamma).item() == pytest.approx(total / len(LABELS), rel=1e-5)


def test_any_focus_has_finite_slopes() -> None:
    for gamma in (0.1, 0.5, 5.0):
        logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0], [-math.inf, 0.0]], requires_grad=True)
        loss = focal_cross_entropy(logits, torch.tensor([0, 0, 1]), gamma)
        loss.backward()
        assert loss.isfinite() and logits.grad is not None and torch.isfinite(logits.grad).all()
