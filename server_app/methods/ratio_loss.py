"""Ratio Loss on the coordinator (Wang et al., AAAI 2021, https://arxiv.org/abs/2008.06217): monitor and weights.

After each round the global model sees a few auxiliary images of each class p, apart from the others, and the
gradient of the head tells how p would move each of its weights: the auxiliary updates U_p. On the weights that
react to p alone, the ratio R_p = |Σ U_p| / |Σ mean_{j≠p} U_j| is large where the model has learnt little of p.
The next round's losses are weighted by α + β R_p; the ratios go into the journal.

The auxiliary images are `ratio-images` of each class, drawn from the simulated sites' training images as in the
authors' public code. As there, a weight reacts to p alone if p moves it up the most and every other class by at
most .8 of that, and R is 10 where no other class moves such weights at all. Two differences: the code measures
how some epochs of SGD on the images move the head, here it is the gradient itself; and it cuts R at 5,000, a weight
of 501, where `ratio-cap` is 100, a weight of 11: a class that is never predicted can have any ratio, and should not
outweigh all others.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from common.errors import UserError
from common.methods.ratio_loss import RatioLossOptions
from common.models.features import extract_features
from common.models.model import build_model, load_state, pick_device
from common.models.trunk_cache import use_trunk_cache
from common.seeds import numpy_generator
from common.wire import Arrays
from server_app.methods.base import ServerMethod

_ALONE = 0.8  # of the largest update; above it, a second class moves the weight too
_UNMOVED = 10.0


class Monitor(ServerMethod):
    """Probes the global model with auxiliary images after each round."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._options = RatioLossOptions.of(self.experiment)
        dataset = self.federation.dataset
        self._model = build_model(self.experiment, dataset.train.channels, self.num_classes)
        self._model.to(pick_device(self.experiment.run.device))
        use_trunk_cache(self._model, self.experiment)
        self._rows = self._draw()

    def _draw(self) -> npt.NDArray[np.int64]:
        """Return rows of up to `ratio-images` training images of each class."""
        if not self.federation.train_rows:
            raise UserError("method = 'ratio_loss': the coordinator has no images of each class; only simulations do")
        generator = numpy_generator(self.experiment.run.seed, "ratio-images")
        rows = np.concatenate(self.federation.train_rows)
        labels = self.federation.dataset.train.labels[rows]
        drawn = [generator.permutation(np.sort(rows[labels == c])) for c in range(self.num_classes)]
        return np.concatenate([of_class[: self._options.ratio_images] for of_class in drawn])

    def finish(self, broadcast: Arrays, mean: Arrays, server_round: int) -> tuple[Arrays, dict[str, Any]]:
        """Return the class weights α + β R [C], and the ratios for the journal."""
        load_state(self._model, mean)
        dataset = self.federation.dataset
        features, labels = extract_features(self._model.backbone, dataset.train, self._rows, dataset)
        assert self._model.aux_head is not None
        updates = auxiliary_updates(self._model.aux_head(features).detach().cpu(), features.cpu(), labels.cpu())
        ratio = ratios(updates, self._options.ratio_cap)
        weights = self._options.ratio_alpha + self._options.ratio_beta * ratio
        return {"class_weights": weights.float().numpy()}, {"ratio": ratio.tolist()}


def auxiliary_updates(logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Return U [C, C, d]: U_p = −∂CE/∂W of the head on the images of class p; zero for a class without any.

    Args:
        logits: [n, C] of auxiliary images.
        features: [n, d].
        labels: [n].
    """
    classes = one_hot(labels, logits.shape[1]).to(logits.dtype)
    sums = torch.einsum("nk,nc,nd->kcd", classes, classes - logits.softmax(dim=1), features)
    return sums / classes.sum(dim=0).clamp(min=1).view(-1, 1, 1)


def ratios(updates: Tensor, cap: float) -> Tensor:
    """Return R [C], between 0 and `cap`, of auxiliary updates [C, C, d]."""
    size, winner = updates.max(dim=0)  # [C, d]: which class moves a weight up the most
    rivals = (updates.abs() > _ALONE * size.abs()).sum(dim=0) - 1
    alone = one_hot(winner, len(updates)).permute(2, 0, 1).bool() & (rivals < 1)
    mean_other = (updates.sum(dim=0) - updates) / max(1, len(updates) - 1)
    own, others = ((part * alone).sum(dim=(1, 2)) for part in (updates, mean_other))
    known = torch.where(others != 0, own.abs() / others.abs(), torch.full_like(own, _UNMOVED))
    return known.clamp(max=cap)


METHOD = Monitor
