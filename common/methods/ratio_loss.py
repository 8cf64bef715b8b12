"""Ratio Loss: the coordinator weights classes by what they change in the model."""

from common.keys import Positive, key
from common.methods.base import Method, MethodOptions


class RatioLossOptions(MethodOptions):
    """Keys of Ratio Loss."""

    ratio_alpha: float = key(1.0, ge=0, about="Ratio Loss: α of the class weight α + βR (paper: 1)")
    ratio_beta: float = key(0.1, ge=0, about="Ratio Loss: β of the class weight α + βR (paper: .1)")
    ratio_images: Positive = key(64, about="Ratio Loss: auxiliary images a class (its code: 64)")
    ratio_cap: float = key(100.0, gt=0, about="Ratio Loss: largest R; ours (its code: 5000, a weight of 501)")


METHOD = Method(
    name="ratio_loss",
    title="Ratio Loss",
    paper="Wang et al., AAAI 2021, https://arxiv.org/abs/2008.06217",
    family="long-tailed",
    year=2021,
    parts=("aux_head", "class_weights"),
    shared=("backbone", "aux_head"),
    coordinator_parts=("class_weights",),
    own_loss=True,
    mixes=True,
    options=RatioLossOptions,
)
