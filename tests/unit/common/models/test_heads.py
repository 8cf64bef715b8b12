"""Heads behind a projection, and heads rebuilt from what a site saved."""

import pytest
import torch
from torch import nn

from common.models.heads import Projection, class_vectors, linear_from, projected, rebuild_head


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("projection", [None, "plain", "normalised"])
def test_a_head_rebuilt_from_its_arrays_predicts_the_same(bias: bool, projection: str | None) -> None:
    linear = nn.Linear(6, 4, bias=bias)
    head = projected(None if projection is None else Projection(6, 2.0 if projection == "normalised" else None), linear)
    rebuilt = rebuild_head({name: value.numpy() for name, value in head.state_dict().items()})
    features = torch.randn(5, 6)
    assert torch.equal(rebuilt(features), head(features))
    weight, own_bias = class_vectors(rebuilt)
    assert torch.equal(weight, linear.weight) and (own_bias is not None) == bias


def test_a_normalising_projection_has_features_of_the_scales_length() -> None:
    projection = Projection(6, 1.0)
    assert projection.scale is not None
    with torch.no_grad():
        projection.scale.fill_(3.0)
    assert projection(torch.randn(5, 6)).norm(dim=1).tolist() == pytest.approx([3.0] * 5)


def test_a_linear_head_holds_copies() -> None:
    weight = torch.ones(2, 3)
    head = linear_from(weight, None)
    weight.zero_()
    assert head.bias is None and head.weight.sum() == 6
