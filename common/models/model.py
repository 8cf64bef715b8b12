"""The model: one backbone θ, and what a method adds: a fixed frame, an auxiliary head ψ, personal parts."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.architectures import NO_WEIGHTS
from common.config import Experiment
from common.config.sections import conditions
from common.config.values import Values
from common.errors import UserError
from common.methods import METHODS, Method, PartContext
from common.models.backbones import Backbone, build_backbone
from common.models.heads import FrameClassifier, Projection, linear_from, projected
from common.models.ladm import LabelAwareBackbone, PerClassHead
from common.models.parts import PARTS, build_parts, seeded
from common.models.standing import STATISTICS, Norm, make_stand
from common.seeds import derive


class Model(nn.Module):
    """Backbone θ with the parts that a method has.

    Args:
        backbone: θ.
        frame: fixed classifier [C, d], or None.
        **parts: by name, in order: a module, a parameter, or a tensor that becomes a buffer. Those of `PARTS` that are
            not given are None.

    Attributes:
        backbone: images [B, channels, H, W] → features [B, d].
        frame: fixed classifier [C, d], a buffer that never trains, travels once and is never averaged.
        aux_head: ψ, the global linear head d → C, or None.
        personal_head: φ_k, the site's own linear head d → C, or None.
        personal_backbone: the backbone of a whole personal model, or None.
        projection: a shared layer between the backbone and the frame, or None.
        retrained_head: a linear head d → C that the coordinator trains, or None.
        class_head: scale and biases of the frame as a multi-label head, or None.
        class_weights: [C], a weight of each class that the coordinator computes, a buffer; or None.
        class_state: [3, C], running statistics of each class that the site keeps, a buffer; or None.
        fixed: names of θ's state that never change: they cross once.
        local_norms: names of BatchNorm's state that stays at the site.
    """

    fixed: frozenset[str] = frozenset()
    local_norms: frozenset[str] = frozenset()
    frame: Tensor | None
    aux_head: nn.Linear | None
    personal_head: nn.Linear | None
    personal_backbone: nn.Module | None
    projection: Projection | None
    retrained_head: nn.Linear | None
    class_head: PerClassHead | None
    class_weights: Tensor | None
    class_state: Tensor | None

    def __init__(
        self,
        backbone: nn.Module,
        frame: Tensor | None = None,
        **parts: nn.Module | Tensor | None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("frame", frame)
        for name, part in (dict.fromkeys(PARTS) | parts).items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B, d] of images [B, channels, H, W], or one a class, [B, C, d], with attention."""
        features: Tensor = self.backbone(images)
        return features

    def frame_logits(self, features: Tensor) -> Tensor:
        """Return logits [B, C] of features under the fixed frame, behind the projection if any.

        There is no bias or scale, unless the method has a class head.
        """
        assert self.frame is not None
        if self.class_head is not None:
            return self.class_head.logits(features, self.frame)
        return nn.functional.linear(features if self.projection is None else self.projection(features), self.frame)

    def frame_head(self) -> nn.Module:
        """Return the fixed frame as a head: what `frame_logits` computes."""
        assert self.frame is not None
        if self.class_head is not None:
            return FrameClassifier(self.class_head, self.frame)
        return projected(self.projection, linear_from(self.frame, None))


def build_model(
    experiment: Experiment,
    channels: int,
    num_classes: int,
    frame: Tensor | None = None,
    site: str | None = None,
) -> Model:
    """Build the model of the experiment's method with weights that depend on the seed alone.

    θ and ψ start equal for every method, site and engine; a whole personal model, and a personal head without a ψ
    beside it, start as they do; a personal head beside ψ starts from (seed, site).

    Args:
        channels: colour channels of the images.
        num_classes: C.
        frame: fixed classifier [C, d] for methods that have one.
        site: name of the site; None on the coordinator, whose model has no personal parts.
    """

    def body() -> nn.Module:
        build = partial(build_backbone, experiment.model.backbone, channels, experiment.model.width)
        pooled = make_stand(seeded(derive(experiment.run.seed, "backbone"), build), experiment)
        pooled.set_format(experiment.model.channels_last, experiment.model.precision)
        if not uses_attention(experiment):
            return pooled
        attention = partial(LabelAwareBackbone, pooled, experiment.model.attention_heads, frame)
        return seeded(derive(experiment.run.seed, "attention"), attention)

    backbone = body()

    row, dim = METHODS[experiment.method], feature_dim(backbone)
    parts = build_parts(PartContext(row, experiment, num_classes, dim, frame, site, body))
    model = Model(backbone, None if frame is None else frame.clone(), **parts)
    prefix = "backbone." if backbone is body_of(backbone) else "backbone.body."
    model.fixed = frozenset(prefix + name for name in body_of(backbone).fixed)
    model.local_norms = _local_norms(model, experiment) - model.fixed
    return model


def uses_attention(experiment: Experiment) -> bool:
    """Whether label-aware attention gives one feature a class."""
    return conditions.uses_attention(Values(experiment))


def frame_kind(experiment: Experiment) -> str:
    """Return which fixed frame the experiment needs, '' for none."""
    return conditions.frame_kind(Values(experiment))


def last_step_needs_frame(experiment: Experiment) -> bool:
    """Whether making a personal model takes the frame: FedLoGe's is on ψ and φ_k alone, which a class head shapes."""
    return METHODS[experiment.method].frame_scores or uses_attention(experiment)


def body_of(backbone: nn.Module) -> Backbone:
    """Return what computes the map or the features, without label-aware attention behind it."""
    body = backbone.body if isinstance(backbone, LabelAwareBackbone) else backbone
    assert isinstance(body, Backbone)
    return body


def feature_dim(backbone: nn.Module) -> int:
    """Return d, the length of a backbone's feature vector."""
    return int(getattr(backbone, "feature_dim"))  # noqa: B009 - nn.Module attributes are untyped


def shared_state(model: nn.Module, method: Method, *, copy: bool = True) -> dict[str, npt.NDArray[Any]]:
    """Return what is averaged as NumPy: the method's shared parts, without what stands still or stays at the site.

    Args:
        model: whose state.
        method: its row.
        copy: whether the arrays stay as they are when the model moves on; else they may be views of its weights.
    """
    out = _left_out(model)
    return _arrays(model, lambda name: _part(name) in method.shared and name not in out, copy)


def fixed_state(model: nn.Module, method: Method, experiment: Experiment) -> dict[str, npt.NDArray[Any]]:
    """Copy what crosses once to NumPy: what stands still, and with weights where the sites' own BatchNorm starts."""
    kept = model.fixed if isinstance(model, Model) else frozenset()
    if experiment.model.weights != NO_WEIGHTS and isinstance(model, Model):
        kept |= model.local_norms
    return _arrays(model, lambda name: _part(name) in method.shared and name in kept)


def coordinator_state(model: nn.Module, method: Method) -> dict[str, npt.NDArray[Any]]:
    """Copy what the coordinator alone changes, and sends, to NumPy."""
    return _arrays(model, lambda name: _part(name) in method.coordinator_parts)


def personal_state(model: nn.Module, method: Method) -> dict[str, npt.NDArray[Any]]:
    """Copy what stays at the site to NumPy: the method's personal parts, and BatchNorm where that is local."""
    norms = model.local_norms if isinstance(model, Model) else frozenset()
    if not method.personal and not norms:
        return {}
    return _arrays(model, lambda name: _part(name) in method.personal or name in norms)


def _arrays(model: nn.Module, wanted: Callable[[str], bool], copy: bool = True) -> dict[str, npt.NDArray[Any]]:
    state = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items() if wanted(name)}
    return {name: value.copy() for name, value in state.items()} if copy else state


def _part(name: str) -> str:
    return name.split(".", 1)[0]


def _left_out(model: nn.Module) -> frozenset[str]:
    return model.fixed | model.local_norms if isinstance(model, Model) else frozenset()


def _local_norms(model: nn.Module, experiment: Experiment) -> frozenset[str]:
    """Return the state of BatchNorm that stays at the site: all of it (FedBN), its statistics (SiloBN), or nothing."""
    norms = {name: part for name, part in model.named_modules() if isinstance(part, Norm)}
    names = frozenset(f"{name}.{key}" for name, norm in norms.items() for key in norm.state_dict())
    if METHODS[experiment.method].local_norm:
        return names
    if conditions.norm_kind(Values(experiment)) != "local":
        return frozenset()
    shared = METHODS[experiment.method].shared
    return frozenset(name for name in names if name.endswith(STATISTICS) and _part(name) in shared)


def load_state(model: nn.Module, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy named arrays into the model in place.

    Raises:
        KeyError: a name that the model does not have.
        ValueError: a shape other than the model's (nothing is ever broadcast).
    """
    own = model.state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a message's bytes cannot be written, nor are they
        for name, value in arrays.items():
            if own[name].shape != value.shape:
                raise ValueError(f"{name}: shape {tuple(value.shape)} where {tuple(own[name].shape)} is needed")
            own[name].copy_(torch.from_numpy(np.asarray(value, order="C")))


def pick_device(wanted: str) -> torch.device:
    """Return the wanted device; 'auto' is cuda, else mps, else cpu.

    Raises:
        UserError: this machine does not have it.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, found in there.items() if found))
    if not there[wanted]:
        raise UserError(f"device = '{wanted}': PyTorch finds none here; use auto or cpu")
    return torch.device(wanted)
