"""FedAvg with logit adjustment by all sites' class counts."""

from common.methods.base import Method
from common.methods.shared_options import AdjustmentOptions

METHOD = Method(
    name="fedavg_la_global",
    title="FedAvg + logit adjustment, global prior",
    paper="Menon et al., ICLR 2021, https://arxiv.org/abs/2007.07314",
    family="long-tailed",
    year=2021,
    parts=("aux_head", "class_weights"),
    shared=("backbone", "aux_head"),
    coordinator_parts=("class_weights",),
    extras=("class_counts",),
    mixes=True,
    options=AdjustmentOptions,
)
