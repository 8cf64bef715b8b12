"""FedLoGe-ML: FedLoGe's heads on FedNCA-ML's class features."""

from typing import Literal

from common.keys import key
from common.methods.base import Method
from common.methods.shared_options import FrameOptions, PriorOptions, TrainedFrameOptions


class FedLoGeMLOptions(FrameOptions, PriorOptions, TrainedFrameOptions):
    """Keys of FedLoGe-ML."""

    realign_global: Literal["none", "unit", "prior"] = key(
        "unit",
        about="FedLoGe-ML's ψ: as it is, with rows of norm 1 (GA-FR), or with the coordinator's label prior",
        labels="many",
    )

    @property
    def generic_realignment(self) -> Literal["none", "unit", "prior"]:
        """`realign-global`."""
        return self.realign_global


METHOD = Method(
    name="fedloge_ml",
    title="FedLoGe-ML",
    paper="FedLoGe (https://arxiv.org/abs/2401.08977) on the class features of FedNCA-ML; ours",
    family="multilabel",
    year=2026,
    parts=("aux_head", "personal_head", "class_head"),
    # the frame is a head that shapes the features, behind which small random ones lag for many rounds
    builders=dict.fromkeys(("aux_head", "personal_head"), "common.models.parts:scaled_frame"),
    shared=("backbone", "aux_head", "class_head"),
    personal=("personal_head",),
    frame="choice",
    finetune_rate=0.003,
    labels="many",
    uses_attention=True,
    realigns=True,
    options=FedLoGeMLOptions,
)
