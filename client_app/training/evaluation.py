"""A site's metrics of its own test images: hits of one label an image, or multi-label metrics."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client_app.site.site import Site
from common.data import label_counts
from common.metrics import groups
from common.models.features import extract_features
from common.multilabel_by_class import PerClass
from common.multilabel_metrics import MultilabelReport, measure_split, split_rows
from common.wire import MULTILABEL_METRICS


class SiteEvaluator:
    """The site's test images as features of one backbone, computed once, to evaluate any number of heads.

    Args:
        backbone: images → features [B, d], or [B, C, d].
        site: whose test images; its experiment says whether classes absent from its training data may be predicted.
    """

    def __init__(self, backbone: nn.Module, site: Site) -> None:
        dataset, experiment = site.dataset, site.experiment
        self._features, self._labels = extract_features(backbone, dataset.test, site.test_rows, dataset)
        self._present = site.present if experiment.personalise.mask_classes == "train" else None
        self._site, self._seed, self._multilabel = site, experiment.run.seed, dataset.multilabel
        self._num_classes = len(dataset.classes)

    @property
    def num_test(self) -> int:
        """The site's test images."""
        return len(self._labels)

    @property
    def class_sizes(self) -> npt.NDArray[np.int64]:
        """The test images of each class [C] that metrics are of."""
        labels = self._labels.cpu().numpy()
        if self._multilabel:
            labels = labels[split_rows(len(labels), self._seed, self._site.name)[1]]
        return label_counts(labels, self._num_classes)

    def metrics(self, head: nn.Module, stage: str) -> dict[str, float | int]:
        """Return a head's metrics as a reply names them; what cannot be measured is left out."""
        return self.measure(head, stage)[0]

    def measure(self, head: nn.Module, stage: str) -> tuple[dict[str, float | int], PerClass]:
        """Return a head's metrics as a reply names them, and its metric by class [C]; nan where there is none.

        That is the share of a class's test images that were right, or with several labels its AUC.
        """
        if not self._multilabel:
            hits = correct(head, self._features, self._labels, self._present)
            recalls = self._recalls(hits)
            metrics: dict[str, float | int] = {f"hits-{stage}": int(hits.sum())}
            if self.num_test:
                metrics[f"balanced_accuracy-{stage}"] = float(np.nanmean(recalls))
            return metrics, recalls
        report = self._report(head) if self.num_test else None
        values = {name: math.nan if report is None else report.value(name) for name in MULTILABEL_METRICS}
        metrics = {f"{name}-{stage}": value for name, value in values.items() if not math.isnan(value)}
        return metrics, np.full(self._num_classes, np.nan) if report is None else np.array(report.auc)

    def thresholds(self, head: nn.Module) -> tuple[float, ...] | None:
        """Return a head's tuned thresholds [C], which stay at the site; None where images have one label, or none."""
        return self._report(head).thresholds if self._multilabel and self.num_test else None

    def _recalls(self, hits: npt.NDArray[np.bool_]) -> PerClass:
        sizes, recalls = self.class_sizes, np.full(self._num_classes, np.nan)
        right = np.bincount(self._labels.cpu().numpy(), weights=hits, minlength=self._num_classes)
        np.divide(right, sizes, out=recalls, where=sizes > 0)
        return recalls

    @torch.no_grad()
    def _report(self, head: nn.Module) -> MultilabelReport:
        """Measure the labels that the site knows."""
        probabilities = head(self._features).sigmoid().cpu().numpy()
        labels = self._labels.cpu().numpy()
        if self._present is not None:
            probabilities[:, ~self._present] = 0
        known = self._site.visible
        mask = None if known is None else np.tile(known, (len(labels), 1))
        # a real site does not know the federation's class counts
        shot = {} if self._site.config else groups(self._site.federation.class_counts)
        return measure_split(probabilities, labels, shot, self._seed, self._site.name, mask)


@torch.no_grad()
def correct(
    head: nn.Module, features: Tensor, labels: Tensor, present: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    """Return for each of features [n, d] whether a head predicts its label of [n].

    Args:
        present: classes [C] in the site's training data; where given, the others are never predicted.
    """
    if not len(labels):
        return np.zeros(0, np.bool_)
    logits = head(features)
    if present is not None:
        logits[:, ~torch.from_numpy(present).to(logits.device)] = -torch.inf
    right: npt.NDArray[np.bool_] = (logits.argmax(dim=1) == labels).cpu().numpy()
    return right
