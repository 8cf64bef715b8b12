"""FedPer: a shared backbone, a personal head."""

from common.methods.base import Method

METHOD = Method(
    name="fedper",
    title="FedPer",
    paper="Arivazhagan et al., 2019, https://arxiv.org/abs/1912.00818",
    family="personal",
    year=2019,
    parts=("personal_head",),
    shared=("backbone",),
    personal=("personal_head",),
    generic_head=None,
    labels="any",
    mixes=True,
)
