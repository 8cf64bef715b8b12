"""FedBN: BatchNorm stays at the site."""

from common.methods.base import Method

METHOD = Method(
    name="fedbn",
    title="FedBN",
    paper="Li et al., ICLR 2021, https://arxiv.org/abs/2102.07623",
    family="personal",
    year=2021,
    parts=("aux_head",),
    shared=("backbone", "aux_head"),
    generic_head=None,
    mixes=True,
    local_norm=True,
    labels="any",
)
