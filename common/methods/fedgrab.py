"""Fed-GraB: gradients of each class are re-weighted at the site."""

from common.methods.base import Method

METHOD = Method(
    name="fedgrab",
    title="Fed-GraB",
    paper="Xiao et al., NeurIPS 2023, https://arxiv.org/abs/2310.07587",
    family="long-tailed",
    year=2023,
    parts=("aux_head", "class_state"),
    shared=("backbone", "aux_head"),
    personal=("class_state",),
    own_loss=True,
)
