"""The pixels that pretrained weights expect: their own mean, deviation and interpolation, in place of the data's."""

from functools import lru_cache

from common.architectures import LIBRARIES, NO_WEIGHTS, TIMM, TORCHVISION
from common.config import Experiment
from common.data.images.source import Interpolation
from common.timm_facts import pretrained_facts

Moments = tuple[tuple[float, ...], tuple[float, ...]]

_INSIDE = ("googlenet", "inception_v3")  # torchvision's own shift pixels once more, to these
_HALVES = (0.5, 0.5, 0.5)


def pretrained_moments(experiment: Experiment) -> Moments | None:
    """Return (mean, std) of the pixels that a backbone of torchvision or timm with weights takes, three values each.

    None where the data's own serve: without weights, and for our own backbones. Grey pixels become three channels by
    them, of equal pixels and each with its own mean.
    """
    name = _with_weights(experiment)
    return _of(name) if name else None


def interpolation_of(experiment: Experiment) -> Interpolation:
    """Return by which filter images are resized: `interpolation`, else as the weights expect, else bicubic.

    Example:
        >>> from common.config import build
        >>> experiment = build({"backbone": "torchvision:resnet18", "weights": "imagenet"})
        >>> interpolation_of(experiment), interpolation_of(build({}))
        ('bilinear', 'bicubic')
    """
    if experiment.data.interpolation:
        return experiment.data.interpolation
    name = _with_weights(experiment)
    return _filter_of(name) if name else "bicubic"


def _with_weights(experiment: Experiment) -> str:
    """Return the name of a library's backbone with weights; '' where it has none, and for our own backbones."""
    name = experiment.model.backbone
    return "" if experiment.model.weights == NO_WEIGHTS or not name.startswith(LIBRARIES) else name


@lru_cache(maxsize=4)
def _of(name: str) -> Moments:
    if name.startswith(TIMM):
        facts = pretrained_facts(name.removeprefix(TIMM))
        return tuple(facts["mean"]), tuple(facts["std"])
    from torchvision.models import get_model_weights  # takes seconds to import

    name = name.removeprefix(TORCHVISION)
    if name in _INSIDE:
        return _HALVES, _HALVES
    pixels = get_model_weights(name).DEFAULT.transforms()
    return tuple(pixels.mean), tuple(pixels.std)


@lru_cache(maxsize=4)
def _filter_of(name: str) -> Interpolation:
    if name.startswith(TIMM):
        expected = pretrained_facts(name.removeprefix(TIMM))["interpolation"]
    else:
        from torchvision.models import get_model_weights  # takes seconds to import

        weights = get_model_weights(name.removeprefix(TORCHVISION)).DEFAULT
        expected = weights.transforms().interpolation.value
    return "bilinear" if expected == "bilinear" else "bicubic"
