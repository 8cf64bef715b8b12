"""Finished models on disk and back: files that say themselves which pixels they take and which classes they answer.

Three kinds of file hold one: `generic.safetensors` of a run (the backbone with every generic head), a site's
`personal_model.safetensors` (what to put on that generic model) and the `model.safetensors` of `fednc export` (one
backbone, one head). In each, the header's `experiment` is the configuration and `model` a `Description`, as JSON.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from common.config import Experiment, build
from common.data.images.transforms import prepare
from common.errors import UserError, unknown
from common.files import arrays_digest, read_arrays, save_arrays
from common.methods import METHODS
from common.models.description import Description, header
from common.models.heads import class_vectors, rebuild_head
from common.models.model import build_model, load_state, pick_device, uses_attention
from common.multilabel_by_class import FIXED_THRESHOLD

Arrays = dict[str, npt.NDArray[Any]]

GENERIC, PERSONAL = "generic.safetensors", "personal_model.safetensors"
QUERY = "query.weight"  # [C, d], the frame that asks label-aware attention


class TrainedModel(nn.Module):
    """A finished model: pixels in, probabilities out.

    Attributes:
        about: what its files say of it.
        experiment: the run's configuration.
        backbone: images [B, channels, H, W] → features [B, d], or [B, C, d].
        head: features → logits [B, C].
        head_name: one of the generic model's heads, or 'personal'.
    """

    def __init__(
        self, about: Description, experiment: Experiment, backbone: nn.Module, head: nn.Module, head_name: str
    ) -> None:
        super().__init__()
        self.about, self.experiment = about, experiment
        self.backbone, self.head, self.head_name = backbone, head, head_name
        self.eval()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the C classes, in the order of the answers."""
        return self.about.classes

    @property
    def thresholds(self) -> npt.NDArray[np.float64]:
        """The probabilities [C] from which a label is a yes: the tuned ones, or 0.5."""
        tuned = self.about.thresholds.get(self.head_name)
        return np.full(len(self.about.classes), FIXED_THRESHOLD) if tuned is None else np.array(tuned, np.float64)

    def logits(self, images: Tensor) -> Tensor:
        """Return logits [B, C] of uint8 images [B, channels, H, W]; −∞ for classes that may not be predicted."""
        device = next(self.backbone.parameters()).device
        logits: Tensor = self.head(self.backbone(prepare(images, self.about.mean, self.about.std, device)))
        if self.about.present is None:
            return logits
        return logits.masked_fill(~torch.tensor(self.about.present, device=device), -torch.inf)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities [B, C] of logits: of one label they sum to 1, of several each stands for itself."""
        return logits.sigmoid() if self.about.multilabel else logits.softmax(dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities [B, C] of uint8 images [B, channels, H, W]."""
        return self.probabilities(self.logits(images))

    @torch.no_grad()
    def predict(self, images: Tensor | npt.NDArray[np.uint8]) -> list[tuple[str, ...]]:
        """Return the labels of images: of one label an image the likeliest, of several each that reaches its threshold.

        Args:
            images: uint8 [B, channels, H, W]; channels, H and W as in `about`.

        Raises:
            UserError: they have another form.

        Example:
            `load_trained(folder).predict(load_dataset(experiment).test.batch(np.arange(8)))`
        """
        pixels = torch.as_tensor(images)
        wanted = (self.about.channels, *self.about.size)
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or tuple(pixels.shape[1:]) != wanted:
            found, expected = f"{pixels.dtype} {list(pixels.shape)}", ", ".join(map(str, wanted))
            raise UserError(f"images: {found}: expected torch.uint8 [B, {expected}], channels × height × width")
        answers = self(pixels).cpu().numpy() if len(pixels) else ()
        return [self.labels(probabilities, self.thresholds) for probabilities in answers]

    def labels(self, probabilities: npt.NDArray[np.float32], thresholds: npt.NDArray[np.float64]) -> tuple[str, ...]:
        """Return the labels of one image's probabilities [C]; thresholds [C] count where there may be several."""
        predicted = np.flatnonzero(probabilities >= thresholds) if self.about.multilabel else [probabilities.argmax()]
        return tuple(self.classes[c] for c in predicted)

    def save(self, path: Path, experiment: Mapping[str, Any]) -> None:
        """Write the model as one file that `load_trained` reads, by itself.

        Args:
            path: of the file.
            experiment: the configuration to keep in its header.
        """
        state = {**_prefixed("backbone", self.backbone), **_prefixed("head", self.head)}
        query = getattr(self.backbone, "frame", None)
        if query is not None:
            state[QUERY] = query
        arrays = {name: value.detach().cpu().numpy() for name, value in state.items()}
        tuned = {name: values for name, values in self.about.thresholds.items() if name == self.head_name}
        about = self.about.model_copy(update={"head": self.head_name, "thresholds": tuned})
        save_arrays(path, arrays, header(experiment, about))


def backbone_digest(backbone: nn.Module) -> str:
    """Return the content hash of a backbone's state."""
    return arrays_digest({name: value.detach().cpu().numpy() for name, value in backbone.state_dict().items()})


def load_trained(model: Path, personal: Path | None = None, head: str = "", device: str = "cpu") -> TrainedModel:
    """Rebuild a finished model.

    Args:
        model: a run's folder, its `generic.safetensors`, or an exported `model.safetensors`.
        personal: a site's `personal_model.safetensors`, which belongs on the generic model of its run; None for
            the generic model.
        head: which of the generic heads; '' for the one that the method is judged by.
        device: as in an experiment.

    Raises:
        UserError: a file is missing, damaged, no model of FedNC or of another run, or there is no such head.
    """
    path = model / GENERIC if model.is_dir() else model
    arrays, experiment, about, heads = _read(path)
    name = "personal"
    if personal is None:
        name = _pick_head(path, about, heads, head)
        head_arrays = _part(arrays, "head") if about.head else _head_arrays(arrays, name)
    else:
        own, experiment, about, _ = _read(personal)
        head_arrays = _part(own, "head")
        arrays |= own
    try:
        backbone = _rebuild_backbone(arrays, experiment, about)
        classifier = rebuild_head(head_arrays)
        if (found := len(class_vectors(classifier)[0])) != len(about.classes):
            raise ValueError(f"its head answers {found} classes, the header names {len(about.classes)}")
    except (KeyError, ValueError, RuntimeError, AssertionError) as error:
        trouble = " ".join(str(error).split())
        hint = "; give the run's generic model, and this beside it" if name == about.head == "personal" else ""
        raise UserError(f"{personal or path}: its arrays make no {about.method} model ({trouble}){hint}") from None
    if personal is not None and about.backbone != backbone_digest(backbone):
        raise UserError(f"{personal}: belongs on the generic model of another run than {path}; give that one's")
    chosen = TrainedModel(about, experiment, backbone, classifier, name)
    return chosen.to(pick_device(device))


def _read(path: Path) -> tuple[Arrays, Experiment, Description, list[str]]:
    """Return arrays, experiment, description and names of heads of a model's file."""
    arrays, facts = read_arrays(path)
    if missing := {"experiment", "model", "sha256"} - facts.keys():
        raise UserError(f"{path}: not a model of this version of FedNC: its header has no '{min(missing)}'")
    try:
        about = Description.model_validate_json(facts["model"])
        values = dict(json.loads(facts["experiment"]))
    except (ValidationError, ValueError, TypeError, RecursionError) as error:
        first = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path}: its header cannot be read ({first}); copy it again") from None
    named = [name for name in facts.get("heads", "").split(",") if name]
    return arrays, build(values, str(path)), about, [about.head] if about.head else named


def _pick_head(path: Path, about: Description, heads: list[str], wanted: str) -> str:
    row = METHODS[about.method]
    if not heads:
        raise UserError(f"{path}: {row.title} has no generic model; give a site's {PERSONAL} beside it")
    if wanted and wanted not in heads:
        raise unknown("head", wanted, heads)
    return wanted or (about.head or row.reported_head or heads[0])


def _head_arrays(arrays: Arrays, name: str) -> Arrays:
    """Return one of the generic heads as `rebuild_head` takes it."""
    vectors = _part(arrays, name)
    if name != "frame":
        return vectors
    frame = {"weight": vectors["weight"]}  # its bias, if any, is the class head's
    if scaled := _part(arrays, "class_head"):
        return frame | {f"head.{key}": value for key, value in scaled.items()}
    if layer := _part(arrays, "projection"):
        return {"linear.weight": frame["weight"]} | {f"projection.{key}": value for key, value in layer.items()}
    return frame


def _rebuild_backbone(arrays: Arrays, experiment: Experiment, about: Description) -> nn.Module:
    query = torch.from_numpy(arrays[QUERY]) if uses_attention(experiment) else None
    backbone = build_model(experiment, about.channels, len(about.classes), query).backbone
    state = _part(arrays, "backbone")
    if missing := backbone.state_dict().keys() - state.keys():
        raise ValueError(f"backbone.{min(missing)} is missing")
    load_state(backbone, state)
    return backbone


def _part(arrays: Arrays, name: str) -> Arrays:
    """Return the arrays below a name, without it."""
    return {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}


def _prefixed(name: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for key, value in module.state_dict().items()}
