"""FedAvg: the mean of what sites trained."""

from common.methods.base import Method

METHOD = Method(
    name="fedavg",
    title="FedAvg",
    paper="McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629",
    family="generic",
    year=2017,
    parts=("aux_head",),
    shared=("backbone", "aux_head"),
    labels="any",
    mixes=True,
)
