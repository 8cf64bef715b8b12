"""Focal loss: where it is the binary cross-entropy, and what it holds down."""

import torch

from common.losses import bce, focal

LOGITS = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
LABELS = LOGITS.roll(1, 0) > 0.5


def test_without_focus_and_weights_it_is_the_binary_cross_entropy() -> None:
    torch.testing.assert_close(focal(LOGITS, LABELS, gamma=0, alpha=None), bce(LOGITS, LABELS))
    torch.testing.assert_close(focal(LOGITS, LABELS, gamma=0, alpha=0.5), bce(LOGITS, LABELS) / 2)


def test_the_papers_example_an_easy_label_costs_a_hundredth() -> None:
    # Lin et al., section 3.2: with γ = 2 a label at p_t = 0.9 has 100 times less loss.
    easy = torch.logit(torch.tensor([[0.9]]))
    label = torch.tensor([[True]])
    torch.testing.assert_close(focal(easy, label, gamma=2, alpha=None) * 100, bce(easy, label))


def test_any_focus_has_finite_slopes() -> None:
    for gamma in (0.1, 0.5, 5.0):
        logits = torch.tensor([[-200.0, 200.0, 200.0, -200.0]], requires_grad=True)
        focal(logits, torch.tensor([[True, True, False, False]]), gamma=gamma).backward()
        assert logits.grad is not None and torch.isfinite(logits.grad).all()
