"""Ditto: a whole personal model, held to the shared one."""

from common.keys import key
from common.methods.base import Method, MethodOptions


class DittoOptions(MethodOptions):
    """Keys of Ditto."""

    ditto_lambda: float = key(
        1.0, ge=0, about="Ditto's λ (paper: .1 to 2, tuned)", grid=(0.1, 1.0, 2.0), changes="personal"
    )


METHOD = Method(
    name="ditto",
    title="Ditto",
    paper="Li et al., ICML 2021, https://arxiv.org/abs/2012.04221",
    family="personal",
    year=2021,
    parts=("aux_head", "personal_backbone", "personal_head"),
    shared=("backbone", "aux_head"),
    personal=("personal_backbone", "personal_head"),
    labels="any",
    mixes=True,
    options=DittoOptions,
)
