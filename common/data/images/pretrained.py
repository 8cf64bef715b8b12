"""The pixels that pretrained weights expect: their own mean, deviation and interpolation, in place of the data's."""

from functools import lru_cache

from common.architectures import NO_WEIGHTS, TORCHVISION
from common.config import Experiment
from common.data.images.source import Interpolation

Moments = tuple[tuple[float, ...], tuple[float, ...]]

_INSIDE = ("googlenet", "inception_v3")  # torchvision's own shift pixels once more, to these
_HALVES = (0.5, 0.5, 0.5)


def pretrained_moments(experiment: Experiment) -> Moments | None:
    """Return (mean, std) of the pixels that a backbone of torchvision with weights takes, three values each.

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
    """Return torchvision's name of a backbone with weights; '' where it has none, and for our own backbones."""
    name = experiment.model.backbone
    if experiment.model.weights == NO_WEIGHTS or not name.startswith(TORCHVISION):
        return ""
    return name.removeprefix(TORCHVISION)


@lru_cache(maxsize=4)
def _of(name: str) -> Moments:
    from torchvision.models import get_model_weights  # takes seconds to import

    if name in _INSIDE:
        return _HALVES, _HALVES
    pixels = get_model_weights(name).DEFAULT.transforms()
    return tuple(pixels.mean), tuple(pixels.std)


@lru_cache(maxsize=4)
def _filter_of(name: str) -> Interpolation:
    from torchvision.models import get_model_weights  # takes seconds to import

    expected = get_model_weights(name).DEFAULT.transforms().interpolation.value
    return "bilinear" if expected == "bilinear" else "bicubic"
