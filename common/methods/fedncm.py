"""FedNCM: class means of features as the head; one generic model."""

from common.methods.base import Method
from common.methods.shared_options import RangeOptions

METHOD = Method(
    name="fedncm",
    title="FedNCM",
    paper="Legate et al., NeurIPS 2023, https://arxiv.org/abs/2306.03937",
    family="generic",
    year=2023,
    parts=("aux_head",),
    builders={"aux_head": "common.models.parts:solved_vectors"},
    shared=("backbone",),
    coordinator_parts=("aux_head",),
    extras=("class_sums",),
    solves="generic",
    starts="ncm",
    options=RangeOptions,
)
