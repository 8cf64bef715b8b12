"""Heads that are more than one linear layer: a projection and normalisation before a fixed or personal frame."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn


class Projection(nn.Module):
    """A linear layer d → d before the frame (FedETF, Li et al., ICCV 2023, https://arxiv.org/abs/2303.10058).

    Attributes:
        linear: the layer.
        scale: learnable temperature, shape [1], by which the normalised features are multiplied (1 at the start,
            as in the authors' public code); None for a layer that neither normalises nor scales.
    """

    def __init__(self, dim: int, normalise: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.scale = nn.Parameter(torch.ones(1)) if normalise else None

    def forward(self, features: Tensor) -> Tensor:
        """Return the projection of features [B, d]; with a scale s it is s·g/‖g‖."""
        projected: Tensor = self.linear(features)
        if self.scale is None:
            return projected
        return self.scale * nn.functional.normalize(projected, dim=1)


def linear_from(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a linear head that holds copies of weight [C, d] and bias [C]."""
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device)
    head.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return head


def projected(projection: Projection | None, head: nn.Linear) -> nn.Module:
    """Return the head behind a projection, or the head itself where there is none."""
    if projection is None:
        return head
    return nn.Sequential(OrderedDict(projection=projection, linear=head))


def class_vectors(head: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Return weight [C, d] and bias [C] of a head's last layer."""
    linear = head if isinstance(head, nn.Linear) else head.get_submodule("linear")
    assert isinstance(linear, nn.Linear)
    return linear.weight.detach(), None if linear.bias is None else linear.bias.detach()


def rebuild_head(arrays: Mapping[str, npt.NDArray[Any]]) -> nn.Module:
    """Return the head whose state these arrays are, as a site saves it in `personal_model.safetensors`.

    Args:
        arrays: `weight` and perhaps `bias`, or the same below `linear.` with a projection below `projection.`.
    """
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if "weight" in state:
        return linear_from(state["weight"], state.get("bias"))
    head = linear_from(state["linear.weight"], state.get("linear.bias"))
    whole = projected(Projection(head.in_features, normalise="projection.scale" in state), head)
    whole.load_state_dict(state)
    return whole
