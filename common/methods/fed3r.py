"""Fed3R: ridge regression on sums of features, each image weighing the same; one generic head."""

from common.methods.base import Method
from common.methods.fedridge import FEATURE_SUMS
from common.methods.shared_options import SumsOptions

METHOD = Method(
    name="fed3r",
    title="Fed3R",
    paper="Fanì et al., ICML 2024, https://arxiv.org/abs/2406.01116",
    family="generic",
    year=2024,
    parts=("aux_head",),
    builders={"aux_head": "common.models.parts:solved_head"},
    shared=("backbone",),
    coordinator_parts=("aux_head",),
    extras=(FEATURE_SUMS,),
    labels="any",
    solves="generic",
    options=SumsOptions,
)
