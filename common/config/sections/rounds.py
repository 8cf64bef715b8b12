"""Section `rounds`: how many rounds, who takes part, what is aggregated and how it crosses."""

from typing import Literal

from common.keys import Acts, KeyModel, NotNegative, Positive, Rate, is_one_of, is_set, key

_SERVER_MOMENTUM = Acts(is_one_of("server-optimizer", "momentum"))
_SERVER_BETAS = Acts(is_one_of("server-optimizer", "adam", "yogi"))
_SERVER_TAU = Acts(is_one_of("server-optimizer", "adam", "yogi", "adagrad"))


class RoundsSection(KeyModel):
    """How many rounds, who takes part, what is aggregated and how it crosses."""

    rounds: Positive = key(
        500,
        about="communication rounds (paper: 500); more extend a run",
        resume="onward",
        common=True,
        everyday=True,
    )
    participation: Rate = key(
        1.0, about="share of sites asked each round (paper: 1, or .3)", resume="onward", common=True, everyday=True
    )
    evaluate_every: Positive = key(5, about="rounds between evaluations; the last round always is", resume="onward")
    quorum: Rate = key(0.5, about="share of the asked sites whose replies a round needs", resume="onward")
    round_retries: NotNegative = key(2, about="rounds in a row without a quorum that are repeated", resume="host")
    round_timeout: float = key(3600, gt=0, about="seconds the coordinator waits for a round's replies", resume="host")
    rest_after: NotNegative = key(3, about="failures in a row until a site rests; 0: it never does", resume="onward")
    rest_rounds: Positive = key(
        5, about="rounds in which a site that rests is not asked", resume="onward", acts=Acts(is_set("rest-after"))
    )
    aggregation: Literal["mean", "median", "trimmed-mean", "multi-krum"] = key(
        "mean", about="mean: by training images (the papers'); the others bear some wrong sites"
    )
    trimmed_share: float = key(
        0.2,
        ge=0,
        lt=0.5,
        about="trimmed-mean: cut off at both ends of each coordinate",
        acts=Acts(is_one_of("aggregation", "trimmed-mean")),
    )
    wrong_sites: NotNegative = key(
        1, about="multi-krum: sites that may be wrong", acts=Acts(is_one_of("aggregation", "multi-krum"))
    )
    server_optimizer: Literal["none", "momentum", "adam", "yogi", "adagrad"] = key(
        "none",
        about="none: the new model is that aggregate; else what FedAvgM, FedAdam, FedYogi, FedAdagrad make of it "
        "for parameters, while BatchNorm's statistics are aggregated as ever",
    )
    server_learning_rate: float | None = key(
        None,
        gt=0,
        about="default: Flower's, of momentum 1, of adam and adagrad .1, of yogi .01",
        acts=Acts(is_one_of("server-optimizer", "momentum", "adam", "yogi", "adagrad")),
    )
    server_momentum: float = key(0.9, ge=0, lt=1, about="FedAvgM's β", acts=_SERVER_MOMENTUM)
    server_beta1: float = key(0.9, ge=0, lt=1, about="decay of the mean of updates", acts=_SERVER_BETAS)
    server_beta2: float = key(0.99, ge=0, lt=1, about="decay of the mean of their squares", acts=_SERVER_BETAS)
    server_tau: float = key(1e-3, gt=0, about="τ of m / (√v + τ): larger is less adaptive", acts=_SERVER_TAU)
    max_site_images: Positive | None = key(None, about="training images that a site counts for at most")
    clip_norm: float | None = key(None, gt=0, about="how far a reply may move from what was sent (2-norm)")
    max_step: float | None = key(
        100.0,
        gt=0,
        about="a reply may move at most this × (norm of what was sent + 1); beyond, it is rejected",
        resume="host",
    )
    wire: Literal["single", "half"] = key(
        "single", about="precision of weights on the way; half: half the bytes, computed with in single"
    )
