"""Binary cross-entropy against PyTorch's own."""

import torch

from common.losses import bce


def test_it_is_pytorchs_with_sums_over_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 9, generator=generator), torch.rand(6, 9, generator=generator) < 0.3
    theirs = torch.nn.BCEWithLogitsLoss(reduction="sum")(logits, labels.float()) / 6
    torch.testing.assert_close(bce(logits, labels), theirs)


def test_far_logits_cost_their_distance() -> None:
    loss = bce(torch.tensor([[-1e4, 1e4]]), torch.tensor([[True, False]]))
    assert loss.item() == 2e4
