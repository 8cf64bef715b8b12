"""Section `train`: what a site does in a round."""

from typing import Literal

from common.keys import KeyModel, Positive, key


class TrainSection(KeyModel):
    """What a site does in a round."""

    local_epochs: Positive = key(5, about="epochs E at a site each round (paper: 5)", common=True, everyday=True)
    batch_size: int = key(
        32, ge=2, le=10**9, about="images a step (paper's code: 8, slow on every device)", everyday=True
    )
    learning_rate: float = key(0.03, gt=0, about="SGD, all parameter groups (paper's code: .03)", everyday=True)
    momentum: float = key(0.5, ge=0, lt=1, about="SGD (paper's code: .5)")
    weight_decay: float = key(0.0, ge=0, about="SGD (paper's code: 0)")
    augment: Literal["none", "flip", "crop-flip"] = key("none", about="crop: 4 pixels of padding (CIFAR)")
    multilabel_loss: Literal["bce", "focal", "asymmetric", "distribution-balanced"] = key(
        "bce", about="the loss of images with several labels", labels="many"
    )
