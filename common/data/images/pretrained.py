"""The pixels that pretrained weights expect: their own mean and deviation, in place of the data's."""

from functools import lru_cache

from common.architectures import LIBRARIES, NO_WEIGHTS, TIMM, TORCHVISION
from common.config import Experiment

Moments = tuple[tuple[float, ...], tuple[float, ...]]

_INSIDE = ("googlenet", "inception_v3")  # torchvision's own shift pixels once more, to these
_HALVES = (0.5, 0.5, 0.5)


def pretrained_moments(experiment: Experiment) -> Moments | None:
    """Return (mean, std) of the pixels that a backbone of torchvision or timm with weights takes, three values each.

    None where the data's own serve: without weights, and for our own backbones. Grey pixels become three channels by
    them, of equal pixels and each with its own mean.
    """
    name = experiment.model.backbone
    if experiment.model.weights == NO_WEIGHTS or not name.startswith(LIBRARIES):
        return None
    return _of_timm(name) if name.startswith(TIMM) else _of(name.removeprefix(TORCHVISION))


@lru_cache(maxsize=4)
def _of(name: str) -> Moments:
    from torchvision.models import get_model_weights  # takes seconds to import

    if name in _INSIDE:
        return _HALVES, _HALVES
    pixels = get_model_weights(name).DEFAULT.transforms()
    return tuple(pixels.mean), tuple(pixels.std)


def _of_timm(name: str) -> Moments:
    from common.timm_facts import pretrained_facts

    facts = pretrained_facts(name.removeprefix(TIMM))
    return tuple(facts["mean"]), tuple(facts["std"])
