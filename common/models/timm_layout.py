"""How a model of timm computes, seen by watching it once on the meta device."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from common.models.backbones import shapes_of
from common.timm_facts import pretrained_facts, timm_library

_ROWS = ("blocks", "stages", "layers", "features", "levels", "network", "transformers")  # rows of stages, not stages
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
_RATES = ("drop_prob", "drop_rate", "drop_path_rate", "attn_drop_rate", "proj_drop_rate")


@dataclass(frozen=True)
class Layout:
    """How a model computes.

    Attributes:
        row: paths of the parts that run in a row, up to the last map.
        head: parts that only work behind the last map.
        whole: whether the row begins with the images.
        single: whether there is one last map, [B, c, h, w], [B, h, w, c] or tokens [B, n, c].
        feature_dim: length of a feature vector.
        channels: c.
        before_tokens: tokens that are no patches: class, registers.
    """

    row: tuple[str, ...]
    head: tuple[str, ...]
    whole: bool
    single: bool
    feature_dim: int
    channels: int
    before_tokens: int


def watched(name: str, side: int) -> Layout:
    """Return how a model computes, as it shows on images of a side, in pixels; families raise what they like."""
    model, images = on_meta(name), torch.empty(2, 3, side, side, device="meta")
    calls: list[tuple[str, Any, Any]] = []
    hooks = [part.register_forward_hook(_noting(calls, path), with_kwargs=True) for path, part in _pieces(model)]
    with torch.no_grad():
        last = model.forward_features(images)  # type: ignore[operator]
        before, single = list(calls), isinstance(last, Tensor)
        answer = model.forward_head(last, pre_logits=True) if single else model(images)  # type: ignore[operator]
    for hook in hooks:
        hook.remove()
    earlier = {path for path, *_ in before}
    behind = dict.fromkeys(path for path, *_ in calls[len(before) :] if path not in earlier) if single else {}
    head = tuple(path for path in behind if model.get_submodule(path).state_dict())
    row, start = _row(before, last) if single else ([], None)
    channels = int(model.num_features)  # type: ignore[arg-type]
    tokens = single and last.dim() == 3 and (getattr(model, "num_prefix_tokens", None) or _odd_tokens(last.shape[1]))
    return Layout(tuple(row), head, start is images, single, answer.flatten(1).shape[1], channels, int(tokens))


def timm_model(name: str) -> nn.Module:
    """Return timm's own model without classifier, freshly initialised, dropout and stochastic depth off."""
    model = _create(name, **_arguments(name))
    for part in model.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        for rate in _RATES:
            if isinstance(getattr(part, rate, None), float):
                setattr(part, rate, 0.0)
    return model


def on_meta(name: str) -> nn.Module:
    """Return timm's model in eval mode on the meta device: shapes without numbers."""
    return shapes_of(lambda: timm_model(name)).eval()


@lru_cache(maxsize=16)
def _arguments(name: str) -> dict[str, Any]:
    """Return what lets a model take images of any size, as far as it can."""
    for arguments in _ANY_SIZE:
        try:
            shapes_of(partial(_create, name, **arguments))
            return arguments
        except TypeError:  # not a key of this family
            continue
    return {}


def _create(name: str, **arguments: Any) -> nn.Module:
    pretrained_facts(name)  # for what it raises
    model: nn.Module = timm_library().create_model(name, pretrained=False, num_classes=0, **arguments)
    return model


def _pieces(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of a model by path; of a row of stages each stage."""
    for name, part in model.named_children():
        if name in _ROWS and type(part) in (nn.Sequential, nn.ModuleList):
            yield from ((f"{name}.{inner}", stage) for inner, stage in part.named_children())
        else:
            yield name, part


def _noting(calls: list[tuple[str, Any, Any]], path: str) -> Any:
    def note(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        plain = len(inputs) == 1 and not any(value is not None for value in keywords.values())
        calls.append((path, inputs[0] if plain else None, output))

    return note


def _row(calls: list[tuple[str, Any, Any]], last: Tensor) -> tuple[list[str], Any]:
    """Return the paths that lead to the last map in a row, and what the first of them was given."""
    row: list[str] = []
    wanted: Any = last
    for path, given, output in reversed(calls):
        if output is not wanted or given is None or [called for called, *_ in calls].count(path) > 1:
            break
        row.insert(0, path)
        wanted = given
    return row, wanted


def _odd_tokens(number: int) -> int:
    """Return how many of the tokens are above the largest square grid: none, or a class token."""
    return 1 if number > 1 and math.isqrt(number - 1) ** 2 == number - 1 and math.isqrt(number) ** 2 != number else 0
