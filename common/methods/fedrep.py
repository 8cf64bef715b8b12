"""FedRep: head and backbone are trained one after the other."""

from common.keys import Positive, key
from common.methods.base import Method, MethodOptions


class FedRepOptions(MethodOptions):
    """Keys of FedRep."""

    fedrep_head_epochs: Positive | None = key(
        None, about="head epochs; default: what remains of local-epochs", grid=(1, 2, 5)
    )
    fedrep_body_epochs: Positive = key(1, about="FedRep's epochs of the backbone, after the head's")


METHOD = Method(
    name="fedrep",
    title="FedRep",
    paper="Collins et al., ICML 2021, https://arxiv.org/abs/2102.07078",
    family="personal",
    year=2021,
    parts=("personal_head",),
    shared=("backbone",),
    personal=("personal_head",),
    generic_head=None,
    labels="any",
    mixes=True,
    options=FedRepOptions,
)
