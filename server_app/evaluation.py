"""The generic model on the coordinator's test set: every head that exists, from one feature pass."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.config import Experiment
from common.data import Dataset
from common.features import feature_batches
from common.heads import linear_from
from common.methods import METHODS
from common.metrics import ClassReport, Tally
from common.model import build_model, load_state, pick_device
from server_app.realign import realign_generic


class GenericEvaluation:
    """Evaluates θ with the fixed frame, ψ, realigned and re-trained ψ.

    Args:
        experiment: the run.
        dataset: its `test` is the coordinator's test set.
        groups: 'many', 'medium', 'few' → class indices, by global training count.
        frame: fixed classifier [C, d], or None for a method without one.
    """

    def __init__(
        self, experiment: Experiment, dataset: Dataset, groups: dict[str, list[int]], frame: Tensor | None
    ) -> None:
        self._experiment, self._dataset, self._groups = experiment, dataset, groups
        self._row = METHODS[experiment.method]
        self.model = build_model(experiment, dataset.train.channels, len(dataset.classes), frame)
        self.model.to(pick_device(experiment.device))

    @torch.no_grad()
    def __call__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, ClassReport]:
        """Return one report a head of the global model in `arrays` (θ and ψ)."""
        load_state(self.model, arrays)
        if not (heads := self.heads()):
            return {}
        tallies = {name: Tally(len(self._dataset.classes)) for name in heads}
        test = self._dataset.test
        everything = np.arange(len(test), dtype=np.int64)
        for features, labels in feature_batches(self.model.backbone, test, everything, self._dataset):
            for name, head in heads.items():
                tallies[name].add(head(features).argmax(dim=1).cpu().numpy(), labels.cpu().numpy())
        return {name: tally.report(self._groups) for name, tally in tallies.items()}

    def heads(self) -> dict[str, nn.Module]:
        """Return each generic head d → C of the model as loaded; none if it has none."""
        if self._row.generic_head is None:
            return {}
        heads: dict[str, nn.Module] = {}
        model = self.model
        if (psi := model.aux_head) is not None:
            heads["aux_head"] = psi
            if self._row.realigns:
                bias = None if psi.bias is None else psi.bias.detach()
                realigned = realign_generic(psi.weight.detach(), bias, self._experiment.realign_bias)
                heads["aux_head_realigned"] = linear_from(*realigned)
        if model.retrained_head is not None:
            heads["retrained_head"] = model.retrained_head
        if model.frame is not None:
            heads["frame"] = model.frame_head()
        return heads
