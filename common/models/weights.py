"""Pretrained weights of a backbone: found, hashed and read on the coordinator alone; sites get them by broadcast.

`weights` names torchvision's or timm's own for ImageNet, a file of arrays (`.safetensors`, as timm's always are, or a
PyTorch state dict, of which nothing but tensors is unpickled), or an earlier run. What a file has for a classifier is
left out; all else must fit. From an earlier run label-aware attention is taken over too, where both have it in the same
form: its projections do not depend on the classes. Its queries do, so they stay this run's own.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from common.architectures import IMAGENET, NO_WEIGHTS, RUN, TIMM, TORCHVISION
from common.config import Experiment
from common.errors import UserError, one_line
from common.files import facts_of, private_folder
from common.models.ladm import LabelAwareBackbone
from common.models.model import body_of
from common.models.trained import GENERIC

_HEADS = ("fc.", "classifier.", "head.", "heads.", "AuxLogits.", "aux1.", "aux2.")  # torchvision's, not of a backbone
_WRAPPERS = ("state_dict", "model")  # under which training scripts put a state dict
_BODY, _ATTENTION = ("backbone.body.", "backbone."), "backbone.ladm."  # of a run's generic model
_NAMED = 3  # keys of a kind that an error writes out


@dataclass(frozen=True)
class Loaded:
    """What became of a file's arrays.

    Attributes:
        source: of the arrays.
        sha256: of the file.
        arrays: how many the backbone took.
        unused: names of those that were left out: a classifier's, and what depends on an earlier run's classes.
        attention: names of those that label-aware attention took.
        anew: why this run's attention begins anew; '' where it does not, or there is none.
    """

    source: Path
    sha256: str
    arrays: int
    unused: tuple[str, ...]
    attention: tuple[str, ...] = ()
    anew: str = ""


def pin_weights(experiment: Experiment) -> Experiment:
    """Return the experiment with the hash of its weights, by which it differs from one with another file.

    Raises:
        UserError: the file is not there or cannot be fetched, or `weights-sha256` asks for another.
    """
    if experiment.model.weights == NO_WEIGHTS:
        return experiment
    path = weights_file(experiment)
    digest, wanted = _sha256(path), experiment.model.weights_sha256
    if wanted not in (None, digest):
        raise UserError(f"{path}: another file than weights-sha256 asks for: its SHA-256 is {digest}, not {wanted}")
    return experiment.replace(weights_sha256=digest)


def weights_file(experiment: Experiment) -> Path:
    """Return the file of an experiment's weights, fetched where it is a library's and not here yet."""
    wanted = experiment.model.weights
    if wanted == IMAGENET:
        return _imagenet(experiment.model.backbone)
    path = Path(wanted.removeprefix(RUN))
    path = path / GENERIC if wanted.startswith(RUN) else path
    if not path.is_file():
        kind = "an earlier run's folder" if wanted.startswith(RUN) else "a file of weights"
        raise UserError(f"weights = '{wanted}': there is no file {path}; give {kind}, imagenet, or none")
    return path


def load_weights(backbone: nn.Module, experiment: Experiment) -> Loaded:
    """Put the weights of `pin_weights` into a backbone, in place.

    Args:
        backbone: of the generic model, with or without label-aware attention.
        experiment: the run that begins.

    Raises:
        UserError: the file is damaged or not the one that was pinned, or its arrays do not fit: missing, unexpected, of
            another shape, not finite; each is named.
    """
    path = weights_file(experiment)
    if (digest := _sha256(path)) != experiment.model.weights_sha256:
        raise UserError(
            f"{path}: has changed since the run began; put back the file of {experiment.model.weights_sha256}"
        )
    arrays, body = read_weights(path), body_of(backbone)
    own, anew = body.state_dict(), ""
    attention: dict[str, Tensor] = {}
    if experiment.model.weights.startswith(RUN):
        every, arrays = arrays, _of_run(arrays)
        if isinstance(backbone, LabelAwareBackbone):
            attention, anew = _attention_of_run(path, every, backbone, experiment.model.attention_heads)
        prefix = _body_prefix(every)
        taken = {prefix + name for name in arrays} | {_ATTENTION + name for name in attention}
        unused = sorted(every.keys() - taken)
    else:
        unused = sorted(
            name for name in arrays.keys() - own.keys() if name.startswith(_heads(experiment.model.backbone))
        )
        arrays = {name: value for name, value in arrays.items() if name not in unused}
    arrays |= {name: _fitted(name, arrays[name], own[name]) for name in arrays.keys() & own.keys()}
    _check(path, experiment.model.backbone, arrays, own)
    _copy(arrays, own)
    if attention:
        assert isinstance(backbone, LabelAwareBackbone)
        _check(path, experiment.model.backbone, attention, backbone.ladm.state_dict())
        _copy(attention, backbone.ladm.state_dict())
    return Loaded(
        path, digest, len(arrays), tuple(unused), tuple(sorted(_ATTENTION + name for name in attention)), anew
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        UserError: it cannot be read, is damaged, or holds something else than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has its own, and damaged bytes raise nearly anything
        why = one_line(str(error), 200) or "it is empty, or cut"
        raise UserError(
            f"{path}: cannot be read as weights ({why}); give .safetensors, or a PyTorch state dict"
        ) from None
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    odd = (
        next((key for key, value in content.items() if not isinstance(value, Tensor)), None) if _named(content) else ""
    )
    if odd is not None:
        raise UserError(f"{path}: no state dict: {odd or 'what it holds'} is no tensor under a name; save state_dict()")
    return {name.removeprefix("module."): value for name, value in content.items()}


def _named(content: Any) -> bool:
    return isinstance(content, Mapping) and all(isinstance(name, str) for name in content)


def _body_prefix(arrays: Mapping[str, Tensor]) -> str:
    return next(prefix for prefix in _BODY if any(name.startswith(prefix) for name in arrays) or prefix == _BODY[-1])


def _of_run(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone of a run's generic model, by its own names, without attention and heads."""
    prefix = _body_prefix(arrays)
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _attention_of_run(
    path: Path, arrays: Mapping[str, Tensor], backbone: LabelAwareBackbone, heads: int
) -> tuple[dict[str, Tensor], str]:
    """Return the attention of a run's generic model by its own names, or none and why it is left out.

    A projection of as many heads of as many features means the same whatever the classes; the queries are not here.
    """
    found = {name.removeprefix(_ATTENTION): value for name, value in arrays.items() if name.startswith(_ATTENTION)}
    if not found:
        return {}, "that run has none"
    try:
        theirs_heads = json.loads(facts_of(path)["experiment"])["attention-heads"]
    except (KeyError, TypeError, ValueError):
        return {}, "the file's header does not say of how many heads that run's is"
    theirs = (theirs_heads, len(found.get("attention.out_proj.weight", ())))
    ours = (heads, backbone.feature_dim)
    if theirs != ours:
        return {}, f"that run's has {theirs[0]} heads over {theirs[1]} features, this one's {ours[0]} over {ours[1]}"
    return found, ""


def _copy(arrays: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in arrays.items():
            own[name].copy_(value)


def _fitted(name: str, value: Tensor, own: Tensor) -> Tensor:
    """Return a vision transformer's positions on the grid of ours; anything else as it is."""
    if name == "encoder.pos_embedding" and value.dim() == 3 and value.shape[2:] == own.shape[2:]:
        from common.models.torchvision_backbones import interpolated

        side = math.isqrt(own.shape[1] - 1)
        return interpolated(value.float(), side, side)
    return value


def _check(path: Path, backbone: str, arrays: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    shared = sorted(arrays.keys() & own.keys())
    # files of early versions of PyTorch have no counters
    missing = [name for name in own if name not in arrays and not name.endswith("num_batches_tracked")]
    shapes = [
        f"{name} is {list(arrays[name].shape)}, not {list(own[name].shape)}"
        for name in shared
        if arrays[name].shape != own[name].shape
    ]
    faults = {
        "missing": missing,
        "unexpected": sorted(arrays.keys() - own.keys()),
        "of another shape": shapes,
        "not finite": [name for name in shared if not arrays[name].isfinite().all()],
    }
    if found := [f"{what}: {_list(names)}" for what, names in faults.items() if names]:
        raise UserError(f"{path}: does not fit backbone '{backbone}': {'; '.join(found)}")


def _list(names: list[str]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


@dataclass(frozen=True)
class Download:
    """Torchvision's newest weights of a model for ImageNet, or timm's of a model and tag.

    Attributes:
        url: where they are fetched.
        path: where they lie afterwards, in PyTorch's own cache.
        megabytes: how large they are; 0: nobody says.
    """

    url: str
    path: Path
    megabytes: float


def imagenet_file(name: str) -> Download:
    """Return what `weights: imagenet` means for a model of torchvision, whether fetched or not."""
    from torchvision.models import get_model_weights

    newest = get_model_weights(name).DEFAULT
    url = str(newest.url)
    folder = Path(str(torch.hub.get_dir())) / "checkpoints"
    return Download(url, folder / url.rpartition("/")[2], float(newest.meta["_file_size"]))


def _timm_file(name: str) -> Download:
    """Return the same for a model of timm."""
    from common.timm_facts import hub_url

    folder = Path(str(torch.hub.get_dir())) / "checkpoints"
    url = hub_url(name)
    return Download(url, folder / f"timm-{url.split('/')[-4]}.safetensors", 0)


def _heads(backbone: str) -> tuple[str, ...]:
    """Return how names begin in a file that are of a classifier."""
    if not backbone.startswith(TIMM):
        return _HEADS
    from common.timm_facts import classifiers

    return tuple(f"{part}." for part in classifiers(backbone.removeprefix(TIMM)))


def _imagenet(backbone: str) -> Path:
    """Return those weights, fetched where they are not here yet."""
    if backbone.startswith(TIMM):
        file = _timm_file(backbone.removeprefix(TIMM))
    else:
        file = imagenet_file(backbone.removeprefix(TORCHVISION))
    if not file.path.exists():
        begins = re.search(r"-([a-f0-9]{8,})\.", file.path.name)
        try:
            private_folder(file.path.parent)
            torch.hub.download_url_to_file(file.url, str(file.path), begins and begins[1], progress=False)
        except (OSError, RuntimeError) as error:  # no network; bytes of another hash
            raise UserError(
                f"weights = 'imagenet': {file.url} cannot be fetched ({one_line(str(error), 200)}); "
                f"fetch it where there is a network and put it at {file.path}, or name it in weights"
            ) from None
    return file.path


def _sha256(path: Path) -> str:
    try:
        facts = path.stat()
        return _sha256_of(path, facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); let it be read, and try again") from None


@lru_cache(maxsize=16)
def _sha256_of(path: Path, *version: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
