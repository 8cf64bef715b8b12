"""FedLoGe: a fixed sparse frame, an auxiliary and a personal head, realigned at the end."""

from typing import Literal

from common.keys import key
from common.methods.base import Method
from common.methods.shared_options import FrameOptions


class FedLoGeOptions(FrameOptions):
    """Keys of FedLoGe."""

    frame_loss: Literal["cross-entropy", "dot-regression"] = key(
        "cross-entropy", about="FedLoGe's loss of the backbone under the frame (Table 8)"
    )
    frame_projection: bool = key(False, about="FedLoGe: a shared linear layer before the frame (Table 8)")

    @property
    def optional_parts(self) -> tuple[str, ...]:
        """`frame-projection`."""
        return ("projection",) if self.frame_projection else ()


METHOD = Method(
    name="fedloge",
    title="FedLoGe",
    paper="Xiao et al., ICLR 2024, https://arxiv.org/abs/2401.08977",
    family="long-tailed",
    year=2024,
    parts=("aux_head", "personal_head"),
    shared=("backbone", "aux_head", "projection"),  # a projection is an option: `frame-projection`
    personal=("personal_head",),
    frame="choice",
    mixes=True,
    finetune_rate=0.003,
    realigns=True,
    options=FedLoGeOptions,
    tunes={"learning-rate": (0.03, 0.1)},
)
