"""FedNCA-ML: class features under a fixed ETF, for several labels an image."""

from common.keys import key
from common.methods.base import Method
from common.methods.shared_options import TrainedFrameOptions


class FedNCAMLOptions(TrainedFrameOptions):
    """Keys of FedNCA-ML."""

    suppression_weight: float = key(0.01, ge=0, about="FedNCA-ML: negative suppression (paper: .01)")
    clustering_weight: float = key(1.0, ge=0, about="FedNCA-ML: compact clustering (paper: 1)")


METHOD = Method(
    name="fednca_ml",
    title="FedNCA-ML",
    paper="Peng et al., 2025, https://arxiv.org/abs/2509.12544",
    family="multilabel",
    year=2025,
    parts=("class_head",),
    shared=("backbone", "class_head"),
    generic_head="frame",
    frame="query",
    finetune_rate=0.003,
    labels="many",
    uses_attention=True,
    finetunes=True,
    options=FedNCAMLOptions,
)
