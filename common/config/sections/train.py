"""Section `train`: what a site does in a round."""

from typing import Annotated, Literal

from common.augmentations import Steps
from common.config.sections.conditions import HAS_TRUNK, USES_LOSS
from common.keys import Acts, Condition, KeyModel, NotNegative, OneOf, Positive, Rate, is_one_of, key
from common.optimisers import OPTIMISERS
from common.schedules import SCHEDULES

_AUGMENTED_TRUNK = Condition("train-from and augment", lambda e: HAS_TRUNK.holds(e) and e.augment != "none")
_SGD = is_one_of("optimizer", "sgd")
_NESTEROV = Condition(f"{_SGD.words} and momentum above 0", lambda e: _SGD.holds(e) and e.momentum > 0)
_STATEFUL = Condition("momentum above 0, or an optimizer other than sgd", lambda e: not _SGD.holds(e) or e.momentum > 0)
_LOSS = Acts(inside=USES_LOSS)
_STEP = Acts(is_one_of("schedule", "step"))
_ADAM = Acts(is_one_of("optimizer", "adamw", "adam"))


class TrainSection(KeyModel):
    """What a site does in a round."""

    local_epochs: Positive = key(5, about="epochs E at a site each round (paper: 5)", common=True, everyday=True)
    batch_size: int = key(
        32, ge=2, le=10**9, about="images a step (paper's code: 8, slow on every device)", everyday=True
    )
    learning_rate: float = key(0.03, gt=0, about="of every part of the model (paper's code: .03)", everyday=True)
    schedule: Annotated[str, OneOf(SCHEDULES)] = key(
        "constant", about="of the learning rate over the rounds of the run, after warmup-rounds; not of fine-tuning's"
    )
    warmup_rounds: NotNegative = key(0, about="rounds in which the rate rises, in equal steps")
    step_rounds: Positive = key(30, about="rounds between steps", acts=_STEP)
    step_factor: Rate = key(0.1, about="of the rate at each step", acts=_STEP)
    poly_power: float = key(0.9, gt=0, le=100, about="p of (1 − t/T)^p", acts=Acts(is_one_of("schedule", "poly")))
    head_rate: float = key(
        1.0, gt=0, le=10**6, about="factor of the learning rate, also of fine-tuning's, for all but the backbone"
    )
    backbone_rate: float = key(
        1.0, gt=0, le=10**6, about="factor of the learning rate, also of fine-tuning's, for the backbone"
    )
    optimizer: Annotated[str, OneOf(OPTIMISERS)] = key(
        "sgd", about="of training and fine-tuning: PyTorch's (the papers': sgd)"
    )
    momentum: float = key(0.5, ge=0, lt=1, about="SGD (paper's code: .5)", acts=Acts(_SGD))
    nesterov: bool = key(False, about="SGD: momentum as Nesterov's", acts=Acts(_NESTEROV))
    adam_beta1: float = key(0.9, ge=0, lt=1, about="decay of the mean of gradients", acts=_ADAM)
    adam_beta2: float = key(0.999, ge=0, lt=1, about="decay of the mean of their squares", acts=_ADAM)
    weight_decay: float = key(
        0.0, ge=0, about="sgd: of all parameters (paper's code: 0); adamw, adam: not of biases, norms and scales"
    )
    optimizer_state: Literal["reset", "kept"] = key(
        "reset",
        about="moments at a round's start: none; or those kept at the site since its last, among its personal parts",
        acts=Acts(_STATEFUL),
    )
    clip_gradients: float = key(
        0.0, ge=0, about="largest norm of a step's gradients, of each part of the model by itself; 0: any"
    )
    augment: Annotated[str, Steps()] = key(
        "none",
        about="steps that change training images, one after the other, as in flip+rotate:15 or [flip, {rotate: 15}]: "
        "flip: left to right; crop: 4 pixels of padding (CIFAR); rotate: up to so many degrees; random-resized-crop: "
        "of this share of the area or more; color-jitter: brightness, contrast, saturation, hue; randaugment: "
        "operations, magnitude; torchvision's; numbers left out are these",
    )
    cached_views: NotNegative = key(
        0,
        le=1000,
        about="augmented views of each image, the same in all epochs, of which each epoch draws one: what stages "
        "before train-from make of them is computed once; 0: others in each epoch, computed each time",
        acts=Acts(_AUGMENTED_TRUNK),
    )
    mixup: float = key(
        0.0,
        ge=0,
        le=1000,
        about="α: images and their labels are mixed with another's of the batch, by shares of Beta(α, α); 0: off; with "
        "cutmix, too, each batch is mixed in one of the two ways",
        labels="one",
    )
    cutmix: float = key(
        0.0,
        ge=0,
        le=1000,
        about="α: a rectangle of each image is another's, and as much of its label; area by Beta(α, α); 0: off",
        labels="one",
    )
    loss: Literal["cross-entropy", "focal"] = key(
        "cross-entropy", about="of one label an image, wherever a method has a cross-entropy", labels="one", acts=_LOSS
    )
    label_smoothing: float = key(
        0.0,
        ge=0,
        lt=1,
        about="share of an image's label that all classes share; where a site's prior is added, those that it has",
        labels="one",
        acts=Acts(is_one_of("loss", "cross-entropy"), inside=USES_LOSS),
    )
    focal_gamma: float = key(
        2.0, ge=0, about="γ of (1 − p)^γ", labels="one", acts=Acts(is_one_of("loss", "focal"), inside=USES_LOSS)
    )
    multilabel_loss: Literal["bce", "focal", "asymmetric", "distribution-balanced"] = key(
        "bce", about="the loss of images with several labels", labels="many"
    )
