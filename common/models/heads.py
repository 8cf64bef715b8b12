"""Heads d → C: linear ones, on one feature an image or one a class, and frames behind a projection or a scale."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.models.ladm import PerClassHead


class ClassHead(nn.Linear):
    """A linear head on one feature an image, z_c = ⟨w_c, h⟩ + b_c, or on one a class, z_c = ⟨w_c, h_c⟩ + b_c."""

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [B, C] of features [B, d] or [B, C, d]."""
        if features.dim() == 2:
            return nn.functional.linear(features, self.weight, self.bias)
        logits = (features * self.weight).sum(dim=2)
        return logits if self.bias is None else logits + self.bias


class FrameClassifier(nn.Module):
    """A frame as a multi-label head with learned scale and biases: the diagonal of `ladm.PerClassHead`.

    Attributes:
        head: scale, biases, and class vectors where they are learned.
        weight: the fixed frame [C, d], a buffer.
    """

    def __init__(self, head: PerClassHead, frame: Tensor) -> None:
        super().__init__()
        self.head = head
        self.weight: Tensor
        self.register_buffer("weight", frame)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [B, C] of features [B, C, d], or [B, d] for all classes."""
        return self.head.logits(features, self.weight)


class Projection(nn.Module):
    """A linear layer d → d before the frame (FedETF, Li et al., ICCV 2023, https://arxiv.org/abs/2303.10058).

    Attributes:
        linear: the layer.
        scale: learnable temperature, shape [1], by which the normalised features are multiplied; None for a layer
            that neither normalises nor scales.

    Args:
        dim: d.
        temperature: `scale` at the start, or None.
    """

    def __init__(self, dim: int, temperature: float | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.scale = None if temperature is None else nn.Parameter(torch.full((1,), temperature))

    def forward(self, features: Tensor) -> Tensor:
        """Return the projection of features [B, d]; with a scale s it is s·g/‖g‖."""
        projected: Tensor = self.linear(features)
        if self.scale is None:
            return projected
        return self.scale * nn.functional.normalize(projected, dim=1)


def linear_from(weight: Tensor, bias: Tensor | None) -> ClassHead:
    """Return a linear head that holds copies of weight [C, d] and bias [C]."""
    head = ClassHead(weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device)
    head.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return head


def projected(projection: Projection | None, head: nn.Linear) -> nn.Module:
    """Return the head behind a projection, or the head itself where there is none."""
    if projection is None:
        return head
    return nn.Sequential(OrderedDict(projection=projection, linear=head))


def class_vectors(head: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Return weight [C, d] and bias [C] of a head's last layer."""
    if isinstance(head, FrameClassifier):
        vectors = head.weight if head.head.vectors is None else head.head.vectors
        return vectors.detach(), head.head.bias.detach()
    linear = head if isinstance(head, nn.Linear) else head.get_submodule("linear")
    assert isinstance(linear, nn.Linear)
    return linear.weight.detach(), None if linear.bias is None else linear.bias.detach()


def rebuild_head(arrays: Mapping[str, npt.NDArray[Any]]) -> nn.Module:
    """Return the head whose state these arrays are, as a site saves it in `personal_model.safetensors`.

    Args:
        arrays: `weight` and perhaps `bias`; the same below `linear.` with a projection below `projection.`; or
            `weight` with `head.scale` and `head.bias`.
    """
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if "head.scale" in state:
        frame = state["weight"]
        classifier = FrameClassifier(PerClassHead(len(frame), state.get("head.vectors")), frame)
        classifier.load_state_dict(state)
        return classifier
    if "weight" in state:
        return linear_from(state["weight"], state.get("bias"))
    head = linear_from(state["linear.weight"], state.get("linear.bias"))
    whole = projected(Projection(head.in_features, 1.0 if "projection.scale" in state else None), head)
    whole.load_state_dict(state)
    return whole
