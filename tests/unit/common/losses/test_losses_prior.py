"""Prior-compensated logits: the prior itself, and where it vanishes."""

import pytest
import torch

from common.losses import bce, compensated, prior_logit


def test_the_prior_is_smoothed_and_finite_at_both_ends() -> None:
    share = torch.sigmoid(prior_logit(torch.tensor([0, 1, 49, 98]), 98))
    torch.testing.assert_close(share, torch.tensor([1, 2, 50, 99]) / 100)
    assert prior_logit(torch.tensor([0]), 0).item() == 0  # no images: no opinion


def test_labels_may_be_known_for_different_numbers_of_images() -> None:
    share = torch.sigmoid(prior_logit(torch.tensor([4, 4]), torch.tensor([8, 98])))
    torch.testing.assert_close(share, torch.tensor([5 / 10, 5 / 100]))


def test_logits_of_zero_predict_the_prior() -> None:
    """At t = 1 the data's own frequencies are fitted by z = 0: nothing is left for the logits to learn."""
    labels = torch.tensor([[True, False]] * 3 + [[False, False]] * 5)
    prior = torch.logit(torch.tensor([3 / 8, 0.1]))
    logits = torch.zeros(8, 2, requires_grad=True)
    bce(compensated(logits, prior), labels).backward()
    assert logits.grad is not None
    assert logits.grad[:, 0].sum().item() == pytest.approx(0, abs=1e-6)


def test_temperature_zero_leaves_the_logits() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    prior = prior_logit(torch.tensor([1, 2, 3]), 9)
    assert torch.equal(compensated(logits, prior, temperature=0), logits)


def test_more_positives_than_images_are_refused() -> None:
    with pytest.raises(ValueError, match="exceed the number of images"):
        prior_logit(torch.tensor([3, 9]), 8)
