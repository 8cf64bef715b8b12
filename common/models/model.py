"""The model: one backbone θ, and what a method adds: a fixed frame, an auxiliary head ψ, personal parts."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.config import Experiment
from common.config.sections import conditions
from common.config.values import Values
from common.errors import UserError
from common.methods import METHODS, Method
from common.methods.fedetf import FedETFOptions
from common.models.backbones import build_backbone
from common.models.heads import ClassHead, FrameClassifier, Projection, linear_from, projected
from common.models.ladm import LabelAwareBackbone, PerClassHead
from common.seeds import derive

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Model(nn.Module):
    """Backbone θ with the heads that a method has.

    Attributes:
        backbone: images [B, channels, H, W] → features [B, d].
        frame: fixed classifier [C, d], a buffer that never trains, travels once and is never averaged.
        aux_head: ψ, the global linear head d → C, or None.
        personal_head: φ_k, the site's own linear head d → C, or None.
        personal_backbone: the backbone of a whole personal model, or None.
        projection: a shared layer between the backbone and the frame, or None.
        retrained_head: a linear head d → C that the coordinator trains, or None.
        class_head: scale and biases of the frame as a multi-label head, or None.
        class_weights: [C], a number of each class that the coordinator finds out, a buffer; or None.
        class_state: [3, C], running figures of each class that the site keeps, a buffer; or None.
    """

    def __init__(
        self,
        backbone: nn.Module,
        frame: Tensor | None = None,
        aux_head: nn.Linear | None = None,
        personal_head: nn.Linear | None = None,
        personal_backbone: nn.Module | None = None,
        projection: Projection | None = None,
        retrained_head: nn.Linear | None = None,
        class_head: PerClassHead | None = None,
        class_weights: Tensor | None = None,
        class_state: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.frame: Tensor | None
        self.class_weights: Tensor | None
        self.class_state: Tensor | None
        self.register_buffer("frame", frame)
        self.register_buffer("class_weights", class_weights)
        self.register_buffer("class_state", class_state)
        self.projection = projection
        self.retrained_head = retrained_head
        self.class_head = class_head
        self.aux_head = aux_head
        self.personal_head = personal_head
        self.personal_backbone = personal_backbone

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
    beside it, start as they do; a personal head beside ψ starts from (seed, site). Where the frame is a multi-label
    head that shapes the features, ψ and φ start as that head: small random ones lag behind it for many rounds.

    Args:
        channels: colour channels of the images.
        num_classes: C.
        frame: fixed classifier [C, d] for methods that have one.
        site: name of the site; None on the coordinator, whose model has no personal parts.
    """
    row = METHODS[experiment.method]
    parts = row.parts

    def body() -> nn.Module:
        build = partial(build_backbone, experiment.model.backbone, channels, experiment.model.width)
        pooled = _seeded(derive(experiment.run.seed, "backbone"), build)
        pooled.tune(experiment.model.channels_last, experiment.model.precision == "bf16")
        if not attends(experiment):
            return pooled
        attention = partial(LabelAwareBackbone, pooled, experiment.model.attention_heads, frame)
        return _seeded(derive(experiment.run.seed, "attention"), attention)

    backbone = body()

    def head(seed: int) -> nn.Linear:
        bias = experiment.model.head_bias and "projection" not in parts  # a frame has none
        if "class_head" in parts and frame is not None:
            return linear_from(PerClassHead.first_scale * frame, torch.zeros(num_classes) if bias else None)
        return _seeded(seed, lambda: ClassHead(feature_dim(backbone), num_classes, bias=bias))

    def projection() -> Projection:
        temperature = None  # the option of another method is a plain layer
        if "projection" in parts:
            temperature = FedETFOptions.of(experiment).temperature(experiment.model.backbone)
        build = partial(Projection, feature_dim(backbone), temperature)
        return _seeded(derive(experiment.run.seed, "projection"), build)

    whole = "personal_backbone" in parts
    psi_seed = derive(experiment.run.seed, "aux_head")
    # FedPer's and FedRep's only head drives the shared backbone, so it starts as every other method's does
    only_head = "aux_head" not in parts
    phi_seed = psi_seed if whole or only_head else derive(experiment.run.seed, "personal_head", site or "")
    return Model(
        backbone,
        frame=None if frame is None else frame.clone(),
        aux_head=head(psi_seed) if "aux_head" in parts else None,
        personal_head=head(phi_seed) if site is not None and "personal_head" in parts else None,
        personal_backbone=body() if site is not None and whole else None,
        projection=projection() if "projection" in parts or (row.frame and experiment.options.projects) else None,
        retrained_head=head(psi_seed) if "retrained_head" in parts else None,
        class_head=PerClassHead(num_classes, frame if experiment.options.frame_learns else None)
        if "class_head" in parts
        else None,
        class_weights=torch.ones(num_classes) if "class_weights" in parts else None,
        class_state=torch.zeros(3, num_classes) if "class_state" in parts and site is not None else None,
    )


def attends(experiment: Experiment) -> bool:
    """Whether label-aware attention gives one feature a class."""
    return conditions.attends(Values(experiment))


def frame_kind(experiment: Experiment) -> str:
    """Return which fixed frame the experiment needs, '' for none."""
    return conditions.frame_kind(Values(experiment))


def last_step_needs_frame(experiment: Experiment) -> bool:
    """Whether making a personal model takes the frame: FedLoGe's is on ψ and φ_k alone, which a class head shapes."""
    row = METHODS[experiment.method]
    return row.generic_head == "frame" or "class_head" in row.parts or attends(experiment)


def feature_dim(backbone: nn.Module) -> int:
    """Return d, the length of a backbone's feature vector."""
    return int(getattr(backbone, "feature_dim"))  # noqa: B009 - nn.Module attributes are untyped


def shared_state(model: nn.Module, method: Method, *, copy: bool = True) -> dict[str, npt.NDArray[Any]]:
    """Return what crosses the wire as NumPy: the method's shared parts, without BatchNorm where that is local.

    Args:
        model: whose state.
        method: its row.
        copy: whether the arrays stay as they are when the model moves on; else they may be views of its weights.
    """
    norms = _norm_names(model) if method.local_norm else frozenset()
    return _arrays(model, lambda name: _part(name) in method.shared and name not in norms, copy)


def sent_state(model: nn.Module, method: Method) -> dict[str, npt.NDArray[Any]]:
    """Copy what the coordinator alone changes, and sends, to NumPy."""
    return _arrays(model, lambda name: _part(name) in method.sent)


def personal_state(model: nn.Module, method: Method) -> dict[str, npt.NDArray[Any]]:
    """Copy what stays at the site to NumPy: the method's personal parts, and BatchNorm where that is local."""
    if not method.personal and not method.local_norm:
        return {}
    norms = _norm_names(model) if method.local_norm else frozenset()
    return _arrays(model, lambda name: _part(name) in method.personal or name in norms)


def _arrays(model: nn.Module, wanted: Callable[[str], bool], copy: bool = True) -> dict[str, npt.NDArray[Any]]:
    state = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items() if wanted(name)}
    return {name: value.copy() for name, value in state.items()} if copy else state


def _part(name: str) -> str:
    return name.split(".", 1)[0]


def _norm_names(model: nn.Module) -> frozenset[str]:
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    return frozenset(f"{name}.{key}" for name, norm in norms.items() for key in norm.state_dict())


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


def _seeded(seed: int, construct: Callable[[], ModuleT]) -> ModuleT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return construct()
