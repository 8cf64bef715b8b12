"""FedAvg with logit adjustment by the site's own class counts."""

from common.methods.base import Method
from common.methods.shared_options import AdjustmentOptions

METHOD = Method(
    name="fedavg_la",
    title="FedAvg + logit adjustment",
    paper="Menon et al., ICLR 2021, https://arxiv.org/abs/2007.07314",
    family="long-tailed",
    year=2021,
    parts=("aux_head",),
    shared=("backbone", "aux_head"),
    mixes=True,
    options=AdjustmentOptions,
)
