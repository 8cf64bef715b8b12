"""FedRidge: class-balanced ridge regression on sums of features; a personal head weighs the site's own sums in."""

from typing import Annotated, Literal

from pydantic import Field

from common.keys import key
from common.methods.base import Method
from common.methods.shared_options import SumsOptions

FEATURE_SUMS = "feature_sums"


class FedRidgeOptions(SumsOptions):
    """Keys of FedRidge."""

    ridge_balance: float = key(
        1.0,
        ge=0,
        le=1,
        about="τ: an image of class c weighs (N/(C n_c))^τ; 1: classes weigh the same",
        grid=(0.5, 0.75, 1.0),
    )
    own_weight: Literal["auto"] | Annotated[float, Field(ge=0)] = key(
        "auto",
        about="β, how much more a site's own sums weigh in its personal head; auto: of 0, 0.3, 1, 3, 10 and 30 "
        "what predicts most of its training images, each part of them (whole patients) left out in turn",
        changes="personal",
    )
    own_balance: float = key(
        0.0, ge=0, le=1, about="τ of a site's own sums: 0: as frequent as it sees its classes", changes="personal"
    )


METHOD = Method(
    name="fedridge",
    title="FedRidge",
    paper="ours, after Fanì et al., ICML 2024, https://arxiv.org/abs/2406.01116",
    family="long-tailed",
    year=2026,
    parts=("aux_head",),
    builders={"aux_head": "common.models.parts:solved_head"},
    shared=("backbone",),
    coordinator_parts=("aux_head",),
    extras=(FEATURE_SUMS,),
    sums=("pooled_gram", "pooled_moments", "group_weights", "strengths"),
    labels="any",
    solves="personal",
    starts="ridge",
    options=FedRidgeOptions,
)
