"""Section `personalise`: what becomes of the personal models after the last round."""

from typing import Literal

from common.keys import Acts, KeyModel, NotNegative, is_one_of, is_set, key
from common.methods import METHODS

_REALIGNING = tuple(name for name, row in METHODS.items() if row.realigns)


class PersonaliseSection(KeyModel):
    """What becomes of the personal models after the last round."""

    realign: Literal["paper", "sum", "product", "distribution", "none"] = key(
        "paper",
        about="LA-FR: Eq. 7; plus φ_k (public code's prediction); ψ_c·‖φ_kc‖; n_kc/N_k for ‖φ_kc‖; not at all",
        resume="onward",
        changes="personal",
        acts=Acts(methods=_REALIGNING),
    )
    realign_bias: Literal["keep", "scale", "drop"] = key(
        "keep",
        about="bias of realigned heads, if any; FedLoGe-ML: of ψ alone",
        acts=Acts(is_one_of("head-bias", True), methods=_REALIGNING),
    )
    finetune_epochs: NotNegative = key(
        0, about="at the end: personal head; FedBABU, FedETF: more", resume="onward", changes="fine-tuned"
    )
    finetune_learning_rate: float | None = key(
        None,
        gt=0,
        about="default: learning-rate; methods with a frame: .003 at most, for more harms them",
        resume="onward",
        changes="fine-tuned",
        acts=Acts(is_set("finetune-epochs")),
    )
    mask_classes: Literal["none", "train"] = key(
        "none",
        about="train: a personal model never predicts classes absent from the site's training data",
        changes="personal",
    )
