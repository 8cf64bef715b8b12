"""FedProx: FedAvg with a proximal term at the sites."""

from common.keys import key
from common.methods.base import Method, MethodOptions


class FedProxOptions(MethodOptions):
    """Keys of FedProx."""

    fedprox_mu: float = key(0.01, ge=0, about="FedProx's μ (paper: .001 to 1, tuned)", grid=(0.001, 0.01, 0.1, 1.0))


METHOD = Method(
    name="fedprox",
    title="FedProx",
    paper="Li et al., MLSys 2020, https://arxiv.org/abs/1812.06127",
    family="generic",
    year=2020,
    parts=("aux_head",),
    shared=("backbone", "aux_head"),
    labels="any",
    mixes=True,
    options=FedProxOptions,
)
