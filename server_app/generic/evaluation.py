"""The generic model on the coordinator's test set: every head that exists, from one feature pass."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.config import Experiment
from common.data import Dataset
from common.data.sources.checks import unmeasured
from common.methods import METHODS
from common.methods.shared_options import PriorOptions
from common.metrics import Tally
from common.models.features import feature_batches
from common.models.heads import class_vectors, linear_from
from common.models.model import build_model, load_state, pick_device
from common.models.trunk_cache import use_trunk_cache
from common.multilabel_metrics import MultilabelReport, measure_split, split_rows
from server_app.generic.realign import add_prior, realign_generic
from server_app.run.journal import log
from server_app.run.metrics import Report


class GenericEvaluation:
    """Evaluates θ with the fixed frame, ψ, realigned and re-trained ψ.

    Args:
        experiment: the run.
        dataset: its `test` is the coordinator's test set.
        groups: 'many', 'medium', 'few' → class indices, by global training count.
        frame: fixed classifier [C, d], or None for a method without one.

    Attributes:
        model: θ with what the coordinator has of the method's parts, as last evaluated.
        dataset: as given.
        reports: the last report of each head.
    """

    def __init__(
        self, experiment: Experiment, dataset: Dataset, groups: dict[str, list[int]], frame: Tensor | None
    ) -> None:
        self._experiment, self.dataset, self._groups = experiment, dataset, groups
        self.reports: dict[str, Report] = {}
        self._row = METHODS[experiment.method]
        self.model = build_model(experiment, dataset.train.channels, len(dataset.classes), frame)
        self.model.to(pick_device(experiment.run.device))
        use_trunk_cache(self.model, experiment)

    @torch.no_grad()
    def __call__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Report]:
        """Return one report a head of the global model in `arrays` (θ and ψ)."""
        load_state(self.model, arrays)
        test = self.dataset.test
        if not (heads := self.heads()) or not len(test):
            return {}
        everything = np.arange(len(test), dtype=np.int64)
        outputs: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in heads}
        finite = dict.fromkeys(heads, True)
        for features, _ in feature_batches(self.model.backbone, test, everything, self.dataset):
            for name, head in heads.items():
                logits = head(features)
                finite[name] &= bool(logits.isfinite().all())
                answers = logits.sigmoid() if self.dataset.multilabel else logits.argmax(dim=1)
                outputs[name].append(answers.cpu().numpy())
        self.reports = {name: self._report(np.concatenate(outputs[name]), name, finite[name]) for name in heads}
        return self.reports

    def _report(self, answers: npt.NDArray[Any], head: str, finite: bool) -> Report:
        """Return the metrics of predicted classes [N], or of probabilities [N, C]; of no image if they are not finite.

        A model may be finite while what it makes of an image is not: the run goes on, it may come back.
        """
        labels = self.dataset.test.labels
        if not finite:
            log.warning("generic model, %s: outputs are not finite, so there is no metric; training diverged", head)
            answers, labels = answers[:0], labels[:0]
        if self.dataset.multilabel:
            return measure_split(answers, labels.astype(np.bool_), self._groups, self._experiment.run.seed, "")
        tally = Tally(len(self.dataset.classes))
        tally.add(answers, labels.astype(np.int64))
        return tally.report(self._groups)

    def heads(self) -> dict[str, nn.Module]:
        """Return each generic head d → C of the model as loaded; none if it has none."""
        if self._row.generic_head is None:
            return {}
        heads: dict[str, nn.Module] = {}
        model = self.model
        if (psi := model.aux_head) is not None:
            heads["aux_head"] = psi
            if self._row.realigns:
                weight, bias = class_vectors(psi)
                how = self._experiment.options.generic_realignment
                if how == "unit":
                    weight, bias = realign_generic(weight, bias, self._experiment.personalise.realign_bias)
                elif how == "prior" and bias is not None:
                    bias = add_prior(
                        bias, *self._prior(bias.device), PriorOptions.of(self._experiment).prior_temperature
                    )
                heads["aux_head_realigned"] = linear_from(weight, bias)
        own = self._row.generic_head
        if own in self._row.parts and own not in heads:
            heads[own] = model.get_submodule(own)
        if model.frame is not None and self._row.frame:  # under `attention` any method has one, as queries alone
            heads["frame"] = model.frame_head()
        return heads

    def unmeasured(self) -> tuple[str, ...]:
        """Return the classes that the test images cannot measure: of several labels, those that no threshold sees."""
        labels = self.dataset.test.labels
        if self.dataset.multilabel:
            labels = labels[split_rows(len(labels), self._experiment.run.seed, "")[1]]
        return unmeasured(labels, self.dataset.classes) if len(labels) else ()

    def thresholds(self) -> dict[str, tuple[float, ...]]:
        """Return head → thresholds [C] of the last evaluation; empty where images have one label."""
        return {name: r.thresholds for name, r in self.reports.items() if isinstance(r, MultilabelReport)}

    def _prior(self, device: torch.device) -> tuple[Tensor, int]:
        """Return positives [C] and number of the coordinator's images that thresholds are tuned on."""
        labels = self.dataset.test.labels
        tuning, _ = split_rows(len(labels), self._experiment.run.seed, "")
        return torch.from_numpy(labels[tuning].sum(axis=0)).to(device), len(tuning)
