"""FedBABU: a shared backbone under a frozen head."""

from common.methods.base import Method

METHOD = Method(
    name="fedbabu",
    title="FedBABU",
    paper="Oh et al., ICLR 2022, https://arxiv.org/abs/2106.06042",
    family="personal",
    year=2022,
    parts=("aux_head",),
    shared=("backbone",),
    labels="any",
    finetunes=True,
    mixes=True,
)
