"""Losses: of images with one label in `single_label.py`, and multi-label ones, one a file.

Every one is differentiable, without loops, in at least float32 under autocast. The multi-label ones have one scale, so
that one can stand in for another and FedNCA-ML's weights mean what they mean in its code: the terms of an image's
labels are summed, and the sums are averaged over images. A label that `mask` leaves out adds nothing, and neither does
an empty batch: the loss is then 0, with a gradient of 0.
"""

from common.losses.asymmetric import asymmetric
from common.losses.bce import bce
from common.losses.compact_clustering import compact_clustering
from common.losses.distribution_balanced import distribution_balanced
from common.losses.focal import focal
from common.losses.negative_suppression import negative_suppression
from common.losses.prior import compensated, prior_logit
from common.losses.single_label import focal_cross_entropy, smoothed_cross_entropy

__all__ = [
    "asymmetric",
    "bce",
    "compact_clustering",
    "compensated",
    "distribution_balanced",
    "focal",
    "focal_cross_entropy",
    "negative_suppression",
    "prior_logit",
    "smoothed_cross_entropy",
]
