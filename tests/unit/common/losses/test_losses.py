"""What all multi-label losses promise: safe at the edges, blind to hidden labels, float32 under autocast."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from common import losses

C, D = 4, 6
FRAME = torch.randn(C, D, generator=torch.Generator().manual_seed(5))
COUNTS = torch.tensor([0, 3, 50, 100])  # a label without images, and one that all have
PRIOR = losses.prior_logit(COUNTS, 100)

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
# name -> (shape of the first argument behind B, the loss)
LOSSES: dict[str, tuple[tuple[int, ...], Loss]] = {
    "bce": ((C,), losses.bce),
    "compensated": ((C,), lambda z, y, m: losses.bce(losses.compensated(z, PRIOR), y, m)),
    "focal": ((C,), losses.focal),
    "asymmetric": ((C,), losses.asymmetric),
    "distribution_balanced": ((C,), lambda z, y, m: losses.distribution_balanced(z, y, COUNTS, 100, m)),
    "distribution_balanced_focal": (
        (C,),
        lambda z, y, m: losses.distribution_balanced(z, y, COUNTS, 100, m, gamma=2.0),
    ),
    "negative_suppression": ((C, C), losses.negative_suppression),
    "compact_clustering": ((C, D), lambda h, y, m: losses.compact_clustering(h, y, FRAME, m)),
}
every = pytest.mark.parametrize(("shape", "loss"), LOSSES.values(), ids=LOSSES)


def random_batch(shape: tuple[int, ...], size: int = 7, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    values = scale * torch.randn(size, *shape, generator=generator)
    labels = torch.rand(size, C, generator=generator) < 0.4
    return values.requires_grad_(), labels, torch.rand(size, C, generator=generator) < 0.7


def gradient(loss: Tensor, values: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(loss, values)
    assert torch.isfinite(result).all()
    return result


@every
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("size", [0, 1, 6])
def test_empty_all_positive_and_all_negative_batches_are_safe(
    shape: tuple[int, ...], loss: Loss, positive: bool, masked: bool, size: int
) -> None:
    values, _, mask = random_batch(shape, size)
    value = loss(values, torch.full((size, C), positive), mask if masked else None)
    assert value.shape == () and torch.isfinite(value)
    assert gradient(value, values).shape == values.shape
    if size == 0:
        assert value == 0


@every
def test_scores_without_measure_and_zeros_are_safe(shape: tuple[int, ...], loss: Loss) -> None:
    for scale in (0.0, 1e4):
        values, labels, mask = random_batch(shape, scale=scale)
        value = loss(values, labels, mask)
        assert torch.isfinite(value)
        gradient(value, values)


@every
def test_a_hidden_label_changes_nothing(shape: tuple[int, ...], loss: Loss) -> None:
    values, labels, mask = random_batch(shape)
    value = loss(values, labels, mask)
    grad = gradient(value, values)
    assert (grad[~mask] == 0).all()
    assert grad[mask].abs().sum() > 0
    moved = torch.where(mask.view(*mask.shape, *[1] * (len(shape) - 1)), values, 77.0)
    assert torch.equal(loss(moved, labels ^ ~mask, mask), value)
    assert torch.equal(loss(values, labels, torch.ones_like(mask)), loss(values, labels, None))
    nothing = loss(values, labels, torch.zeros_like(mask))
    assert nothing == 0 and (gradient(nothing, values) == 0).all()


@every
def test_label_free_images_join_the_mean(shape: tuple[int, ...], loss: Loss) -> None:
    values, labels, _ = random_batch(shape)
    labels[2] = False
    assert torch.isfinite(loss(values, labels, None))
    mask = torch.ones_like(labels)
    mask[2] = False  # an image of which nothing is known counts as an image
    rest = [0, 1, 3, 4, 5, 6]
    assert (7 * loss(values, labels, mask)).item() == pytest.approx(6 * loss(values[rest], labels[rest], None).item())


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_lifted_even_inside_autocast(shape: tuple[int, ...], loss: Loss, dtype: torch.dtype) -> None:
    values, labels, mask = random_batch(shape)
    half = values.detach().to(dtype).requires_grad_()
    expected = loss(half.detach().float(), labels, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(half, labels, mask)
        unhalved = loss(values, labels, mask)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, expected)
    assert torch.equal(unhalved, loss(values, labels, mask))
    assert gradient(inside, half).dtype == dtype


@every
def test_gradients_are_those_of_the_value(shape: tuple[int, ...], loss: Loss) -> None:
    values, labels, mask = random_batch(shape, size=3, scale=1.0)
    doubles = values.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: loss(v, labels, mask), [doubles])


@every
def test_labels_and_masks_of_another_kind_are_refused(shape: tuple[int, ...], loss: Loss) -> None:
    values, labels, mask = random_batch(shape)
    for wrong in (labels.float(), labels[:-1], labels[:, :-1]):
        with pytest.raises(ValueError, match=r"labels: .* where bool .* is needed"):
            loss(values, wrong, mask)
    for wrong in (mask.long(), mask[0], mask[:, :-1]):
        with pytest.raises(ValueError, match=r"mask: .* where bool .* is needed"):
            loss(values, labels, wrong)
