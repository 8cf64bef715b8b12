"""Label-aware attention and the per-class head: shapes, gradients, a frame that stays as it is."""

from collections.abc import Callable

import pytest
import torch

from common.models.ladm import LabelAwareAttention, PerClassHead


def parts(classes: int = 4, dim: int = 8) -> tuple[LabelAwareAttention, PerClassHead, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        frame = torch.randn(classes, dim)
        return LabelAwareAttention(dim), PerClassHead(classes), frame


@pytest.mark.parametrize("batch", [0, 1, 5])
@pytest.mark.parametrize("size", [(1, 1), (3, 4)])
def test_shapes_for_any_batch_and_map(batch: int, size: tuple[int, int]) -> None:
    ladm, head, frame = parts()
    feature_map = torch.randn(batch, 8, *size)
    features = ladm(feature_map, frame)
    assert features.shape == (batch, 4, 8)
    assert head(features, frame).shape == (batch, 4, 4)
    assert head.logits(features, frame).shape == (batch, 4)


def test_attention_maps_come_on_request_and_sum_to_one() -> None:
    ladm, _, frame = parts()
    feature_map = torch.randn(2, 8, 3, 5)
    features, maps = ladm(feature_map, frame, attention=True)
    assert maps.shape == (2, 4, 4, 15)
    torch.testing.assert_close(maps.sum(dim=3), torch.ones(2, 4, 4))
    torch.testing.assert_close(features, ladm(feature_map, frame))


def test_logits_are_the_diagonal_of_the_scores() -> None:
    ladm, head, frame = parts()
    features = ladm(torch.randn(3, 8, 2, 2), frame)
    scores = head(features, frame)
    torch.testing.assert_close(head.logits(features, frame), scores.diagonal(dim1=1, dim2=2))
    assert head.scale.item() == 10 and head.bias.tolist() == [0] * 4


def test_everything_learns_but_the_frame() -> None:
    ladm, head, frame = parts()
    frame.requires_grad_()  # a buffer does not ask for a gradient; even a tensor that does gets none
    before = frame.detach().clone()
    feature_map = torch.randn(3, 8, 2, 2, requires_grad=True)
    optimizer = torch.optim.SGD([*ladm.parameters(), *head.parameters(), frame], lr=0.1, weight_decay=0.5)
    features = ladm(feature_map, frame)
    (head(features, frame).square().sum() + head.logits(features, frame).sum()).backward()
    for name, parameter in [*ladm.named_parameters(), *head.named_parameters()]:
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert feature_map.grad is not None and feature_map.grad.abs().sum() > 0
    optimizer.step()
    assert frame.grad is None and torch.equal(frame.detach(), before)


def test_a_class_feature_does_not_depend_on_other_images() -> None:
    ladm, _, frame = parts()
    feature_map = torch.randn(4, 8, 3, 3)
    torch.testing.assert_close(ladm(feature_map, frame)[1:2], ladm(feature_map[1:2], frame))


def test_heads_that_do_not_divide_are_refused(error_of: Callable[[Callable[[], object]], str]) -> None:
    assert "5 attention heads do not divide 8 features" in error_of(lambda: LabelAwareAttention(8, 5))
