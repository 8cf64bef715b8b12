"""Negative suppression: which negatives it takes, and where it stops."""

import torch

from common.losses import negative_suppression


def test_as_many_negatives_as_positives_the_hardest_of_the_whole_batch() -> None:
    scores = torch.full((2, 3, 3), -9.0)
    scores[0, 1, 2], scores[1, 0, 0], scores[1, 2, 1] = 4.0, 2.0, 3.0  # hardest first: (0, 1), (1, 2), (1, 0)
    scores.requires_grad_()
    labels = torch.zeros(2, 3, dtype=torch.bool)
    labels[0, 0] = labels[0, 2] = True  # two positives, both in the first image
    (grad,) = torch.autograd.grad(negative_suppression(scores, labels), scores)
    assert torch.nonzero(grad).tolist() == [[0, 1, 2], [1, 2, 1]]


def test_scores_below_the_margin_are_left_alone() -> None:
    scores = torch.logit(torch.tensor(0.29)).expand(2, 2, 2).clone().requires_grad_()
    loss = negative_suppression(scores, torch.eye(2, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and scores.grad is not None and (scores.grad == 0).all()
    assert negative_suppression(scores, torch.eye(2, dtype=torch.bool), margin=0.2) > 0


def test_equally_hard_negatives_cost_the_same_whichever_is_taken() -> None:
    labels = torch.tensor([[True, False, False, False]])
    scores = torch.ones(1, 4, 4)
    torch.testing.assert_close(negative_suppression(scores, labels), torch.sigmoid(torch.tensor(1.0)) - 0.3)
