"""The interface of a method's site half; the defaults are those of the simplest method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.config import Experiment
from common.data import Dataset
from common.losses import (
    asymmetric,
    bce,
    compensated,
    distribution_balanced,
    focal,
    focal_cross_entropy,
    prior_logit,
    smoothed_cross_entropy,
)
from common.methods.shared_options import PriorOptions
from common.models.model import Model
from common.wire import Arrays


@dataclass(frozen=True)
class Mixed:
    """The second labels of a batch whose images are mixed, each with another of the batch.

    Attributes:
        labels: [B] class indices.
        share: λ in [0, 1], how much of each image is its own; the rest is of the image with the second label.
    """

    labels: Tensor
    share: float


@dataclass(frozen=True)
class LocalContext:
    """What a method may use at a site while it trains.

    Attributes:
        experiment: the run.
        class_counts: the site's training images of each class, float [C]; 0 where the class is not visible.
        broadcast: parameters as the coordinator sent them, by name; empty unless the method needs them.
        num_images: the site's training images.
        visible: classes whose labels the site knows, bool [C]; None: all.
        site: its name, from which random streams of its own start.
        mixed: of the batch, where `mixup` or `cutmix` mixed its images.
    """

    experiment: Experiment
    class_counts: Tensor
    broadcast: Mapping[str, Tensor]
    num_images: int = 0
    visible: Tensor | None = None
    site: str = ""
    mixed: Mixed | None = None

    @property
    def shares(self) -> Tensor:
        """Which share of the site's training images has each class, [C]; all 0 without images."""
        return self.class_counts / max(1, self.num_images)

    def mask(self, labels: Tensor) -> Tensor | None:
        """Return which of labels [B, C] count, None if all do."""
        return None if self.visible is None else self.visible.expand_as(labels)

    def of_labels(self, loss: Callable[[Tensor], Tensor], labels: Tensor) -> Tensor:
        """Return loss(y); of mixed images λ loss(y) + (1 − λ) loss(y′), with y′ their second labels.

        For cross-entropy this is that of the labels' shares, λ for y and 1 − λ for y′ (Mixup, Zhang et al., ICLR 2018,
        https://arxiv.org/abs/1710.09412; CutMix, Yun et al., ICCV 2019, https://arxiv.org/abs/1905.04899, Eq. 1).

        Args:
            loss: of labels [B], a mean over the batch.
            labels: y, [B] class indices.
        """
        if self.mixed is None:
            return loss(labels)
        return self.mixed.share * loss(labels) + (1 - self.mixed.share) * loss(self.mixed.labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the task's loss of logits [B, C]: `loss` of labels [B], or `multilabel-loss` of bool [B, C]."""
        keys = self.experiment.train
        if labels.dtype != torch.bool:
            return self.of_labels(partial(self._of_one_label, logits), labels)
        mask, kind = self.mask(labels), keys.multilabel_loss
        if kind == "distribution-balanced" and self.num_images > 1:  # one image has no positives and negatives
            return distribution_balanced(logits, labels, self.class_counts, self.num_images, mask)
        loss = focal if kind == "focal" else asymmetric if kind == "asymmetric" else bce
        return loss(logits, labels, mask)

    def _of_one_label(self, logits: Tensor, labels: Tensor) -> Tensor:
        keys = self.experiment.train
        if keys.loss == "focal":
            return focal_cross_entropy(logits, labels, keys.focal_gamma)
        return smoothed_cross_entropy(logits, labels, keys.label_smoothing)

    def balanced_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss with the site's label prior added to the logits, so that they need not learn it.

        `loss` of z + log n_k (cross-entropy: balanced softmax), or `multilabel-loss` of z + t·logit π̃_k and several
        labels.
        """
        if labels.dtype != torch.bool:
            return self.loss(logits + self.class_counts.log(), labels)
        prior = prior_logit(self.class_counts, self.num_images)
        return self.loss(compensated(logits, prior, PriorOptions.of(self.experiment).prior_temperature), labels)


@dataclass(frozen=True)
class Phase:
    """Some epochs of a round, with some parts of the model frozen.

    Attributes:
        epochs: passes over the site's images.
        frozen: parts, e.g. ('backbone',), whose parameters and statistics do not move.
        losses: the losses of these epochs; by default the method's own.
    """

    epochs: int
    frozen: tuple[str, ...] = ()
    losses: "Losses | None" = None


Losses = Callable[[Model, Tensor, Tensor, LocalContext], dict[str, Tensor]]


@dataclass(frozen=True)
class OwnImages:
    """A site's training images.

    Attributes:
        dataset: the images are `rows` of its `train`.
        rows: [n].
        held: `arrays_digest` of the extras that the coordinator has of them; '' for none.
    """

    dataset: Dataset
    rows: npt.NDArray[np.int64]
    held: str = ""


class LocalMethod:
    """The site's half of a method; the coordinator's half is its row in `common/methods`.

    Attributes:
        needs_broadcast: whether the losses look at what arrived, of which a copy is then kept.
    """

    needs_broadcast: bool = False

    def start(self, model: Model) -> None:
        """Set personal parts, in place, at a site that has none yet; θ and ψ are what arrived."""

    def phases(self, experiment: Experiment) -> tuple[Phase, ...]:
        """Return the phases of a round; by default `local-epochs` of everything."""
        return (Phase(experiment.train.local_epochs),)

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return the named losses of one batch; their sum is differentiated once.

        Args:
            images: normalised images [B, channels, H, W].
            labels: class indices [B], or several labels as bool [B, C].
            local: what the site knows.
        """
        raise NotImplementedError

    def extras(self, model: Model, images: OwnImages, local: LocalContext) -> Arrays:
        """Return the `extras` of the method's row, computed of the arriving model before the site trains.

        Args:
            model: as it arrived.
            images: of the site, at least one.
            local: what the site knows.
        """
        return {}

    def personal_backbone(self, model: Model) -> nn.Module:
        """Return the backbone of the site's personal model; by default θ."""
        return model.backbone

    def personal_head(self, model: Model) -> nn.Module:
        """Return the head d → C of the site's personal model as it stands during training."""
        raise NotImplementedError

    def final_head(self, model: Model, images: OwnImages, local: LocalContext, sums: Arrays) -> nn.Module:
        """Return the head d → C of the site's personal model after the last round; by default as it was in training.

        Args:
            model: as it arrived.
            images: of the site, perhaps none.
            local: what the site knows.
            sums: as the coordinator sent them: the `sums` of the method's row.

        Raises:
            RefusalError: sums of another form.
        """
        return self.personal_head(model)

    def finetuning(self, experiment: Experiment) -> tuple[Phase, ...] | None:
        """Return what `finetune-epochs` trains at the end; by default None: the personal head alone."""
        return None

    def realigned_head(self, model: Model, local: LocalContext) -> nn.Linear | None:
        """Return the personal head after the last round's realignment, or None if the method has none."""
        return None


def proximal(model: nn.Module, part: str, broadcast: Mapping[str, Tensor], origin: str) -> Tensor:
    """Return ‖w − w_g‖² between a part's parameters and those that arrived for `origin`, a scalar.

    Args:
        part: e.g. 'personal_backbone'.
        broadcast: what the coordinator sent, by name.
        origin: the part they are held to, e.g. 'backbone'.
    """
    module = getattr(model, part)
    squares = [(p - broadcast[f"{origin}.{name}"]).square().sum() for name, p in module.named_parameters()]
    return torch.stack(squares).sum()
