"""What timm knows of its models without building one: their names, weights and the pixels those take."""

from functools import lru_cache
from importlib import import_module
from typing import Any

from common.architectures import TIMM
from common.errors import UserError, did_you_mean, nearest

INSTALL = "pip install 'fednc[timm]'"


def timm_library() -> Any:
    """Return timm.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module("timm")
    except ImportError:
        raise UserError(f"a backbone {TIMM}NAME needs timm: {INSTALL}") from None


@lru_cache(maxsize=16)
def pretrained_facts(name: str) -> dict[str, Any]:
    """Return what timm knows of a model's weights: mean, std, interpolation, input_size, where they are.

    Raises:
        UserError: timm is not installed, or has no such model or weights.
    """
    timm = timm_library()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = nearest(architecture, timm.list_models())
        hint = did_you_mean(near and TIMM + near)
        raise UserError(f"unknown backbone '{TIMM}{name}': {hint}timm.list_models() names all that timm has")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        hint = did_you_mean(nearest(tag, tags))
        raise UserError(
            f"unknown backbone '{TIMM}{name}': {hint}weights of {architecture}: {', '.join(tags) or 'none'}"
        )
    found: dict[str, Any] = timm.get_pretrained_cfg(name).to_dict()
    return found


def hub_url(name: str) -> str:
    """Return where a model's own weights are: safetensors, on Hugging Face's hub.

    Raises:
        UserError: there are none.
    """
    where = pretrained_facts(name).get("hf_hub_id")
    if not where:
        raise UserError(f"weights = 'imagenet': timm has none of '{TIMM}{name}'; give a file, or none")
    return f"https://huggingface.co/{where}/resolve/main/model.safetensors"


def classifiers(name: str) -> tuple[str, ...]:
    """Return the names of a model's classifiers, which are no part of its backbone."""
    named = pretrained_facts(name).get("classifier") or ()
    return (named,) if isinstance(named, str) else tuple(named)
