"""FedROD: a balanced generic head and a personal one beside it."""

from common.methods.base import Method
from common.methods.shared_options import PriorOptions

METHOD = Method(
    name="fedrod",
    title="FedROD",
    paper="Chen and Chao, ICLR 2022, https://arxiv.org/abs/2107.00778",
    family="personal",
    year=2022,
    parts=("aux_head", "personal_head"),
    shared=("backbone", "aux_head"),
    personal=("personal_head",),
    labels="any",
    mixes=True,
    options=PriorOptions,
)
