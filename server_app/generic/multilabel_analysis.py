"""Analysis of the final generic multilabel model, for the report.

From its own test images: the features of each class, and where label-aware attention looks. From a simulation, where
it knows them: which labels occur together at each site. It takes seconds, and no metric of the run depends on it.
"""

import base64
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from common.config import Experiment
from common.data import Dataset, Federation
from common.data.images.transforms import prepare
from common.methods import METHODS
from common.models.ladm import LabelAwareBackbone
from common.models.model import Model
from common.seeds import numpy_generator
from server_app.generic.class_features import (
    Flags,
    Floats,
    Integers,
    attention_maps,
    class_features,
    class_means,
    co_occurrence,
    cosines,
    draw_positives,
    embed,
)
from server_app.run.journal import Journal, log

_MATRIX_CLASSES = 40  # a page can show so many rows
_POINT_CLASSES = 20  # a reader can tell so many marks apart
_SAMPLES = 20
_POSITIVES = 2000  # of all classes together
_POINTS = 600
_SITES = 20
_SIDE = 160  # pixels of a sample's longer side


@dataclass(frozen=True, eq=False)
class AnalysisInput:
    """What is analysed.

    Attributes:
        experiment: the run.
        federation: its data; images have several labels.
        model: the final generic model.
        head: the head that it is judged by, None for a method without one.
    """

    experiment: Experiment
    federation: Federation
    model: Model
    head: nn.Module | None

    @property
    def dataset(self) -> Dataset:
        """The images."""
        return self.federation.dataset

    @cached_property
    def order(self) -> list[int]:
        """Classes from most to fewest training images; test images where the sites do not disclose theirs."""
        counts = self.dataset.test.labels.sum(axis=0) if self.deployed else self.federation.class_counts
        return [int(c) for c in np.argsort(-counts, kind="stable")]

    @property
    def deployed(self) -> bool:
        """Whether sites are real, so that only they know their labels."""
        return self.experiment.sites.partition == "deployed"

    @cached_property
    def positives(self) -> Flags:
        """[N, C] the positives of the test images that prototypes are of."""
        labels = np.asarray(self.dataset.test.labels, np.bool_)
        return draw_positives(labels, self.at_most, self.experiment.run.seed)

    @property
    def at_most(self) -> int:
        """So many of each class."""
        return max(10, _POSITIVES // len(self.dataset.classes))

    @cached_property
    def features(self) -> tuple[Floats, Integers]:
        """Features [P, d] of these positives, and their classes [P]."""
        return class_features(self.model.backbone, self.dataset, self.positives)


def write_analysis(journal: Journal, subject: AnalysisInput) -> None:
    """Write `analysis.json`; what fails is left out with a line in the log, since the run's result is safe."""
    found: dict[str, Any] = {}
    for name, part in _PARTS.items():
        try:
            if facts := part(subject):
                found[name] = facts
        except Exception as error:
            log.warning("analysis: no %s: %s", name, error)
    try:
        journal.write_json("analysis", found)
    except (OSError, ValueError) as error:
        log.warning("analysis: cannot be written: %s", error)


def label_pairs(subject: AnalysisInput) -> dict[str, Any]:
    """Return images [n, n] that have two labels each, of all sites and of some; empty for real sites."""
    if subject.deployed:
        return {}
    federation, classes = subject.federation, head_and_tail(subject.order, _MATRIX_CLASSES)
    labels = np.asarray(subject.dataset.train.labels, np.bool_)
    pairs = []
    for site, rows in enumerate(federation.train_rows):
        visible = labels[rows] if federation.visible is None else labels[rows] & federation.visible[site]
        pairs.append(co_occurrence(visible)[np.ix_(classes, classes)])
    shown = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), _SITES)).round().astype(int)).tolist()
    return {
        "classes": classes,
        "all": np.sum(pairs, axis=0).tolist(),
        "sites": {federation.site_names[k]: pairs[k].tolist() for k in shown},
    }


def prototypes(subject: AnalysisInput) -> dict[str, Any]:
    """Return cosines between the mean features of classes, with attention also of the features that it starts from.

    Empty where there are no features to compare.
    """
    if _no_features(subject):
        return {}
    features, kinds = subject.features
    means = class_means(features, kinds, len(subject.order))
    facts = {
        "classes": head_and_tail(subject.order, _MATRIX_CLASSES),
        **_cosine_facts(subject, means),
        "positives": len(features),
        "at_most": subject.at_most,
        "without": int(np.isnan(means).any(axis=1).sum()),
    }
    backbone = subject.model.backbone
    if isinstance(backbone, LabelAwareBackbone):  # of the same images, as the heads would have them without it
        pooled, kinds = class_features(backbone.body, subject.dataset, subject.positives)
        facts["without_attention"] = _cosine_facts(subject, class_means(pooled, kinds, len(subject.order)))
    return facts


def _cosine_facts(subject: AnalysisInput, means: Floats) -> dict[str, Any]:
    table, classes = cosines(means), head_and_tail(subject.order, _MATRIX_CLASSES)
    apart = table[~np.eye(len(table), dtype=np.bool_)]
    return {
        "cosines": [[_number(value) for value in row] for row in table[np.ix_(classes, classes)]],
        "mean_off_diagonal": _number(float(np.nanmean(apart))) if np.isfinite(apart).any() else None,
    }


def points(subject: AnalysisInput) -> dict[str, Any]:
    """Return t-SNE coordinates of features of positives, evenly many of each class shown."""
    if _no_features(subject):
        return {}
    features, kinds = subject.features
    shown = head_and_tail(subject.order, _POINT_CLASSES)
    generator = numpy_generator(subject.experiment.run.seed, "points")
    chosen = [generator.permutation(np.flatnonzero(kinds == c))[: _POINTS // len(shown)] for c in shown]
    rows = np.concatenate(chosen)
    places = embed(features[rows], subject.experiment.run.seed)
    if not len(places):
        return {}
    return {"classes": kinds[rows].tolist(), "x": places[:, 0].tolist(), "y": places[:, 1].tolist()}


@torch.no_grad()
def attention_samples(subject: AnalysisInput) -> list[dict[str, Any]]:
    """Return test images, one of a class, with the attention of the class on them; empty without attention.

    Empty too unless `report-images` asks for them: they may be of patients, whose anatomy a map alone can show.
    """
    backbone, dataset = subject.model.backbone, subject.dataset
    if (
        not subject.experiment.run.report_images
        or not isinstance(backbone, LabelAwareBackbone)
        or _no_features(subject)
    ):
        return []
    labels, drawn = np.asarray(dataset.test.labels, np.bool_), subject.positives
    classes = head_and_tail([c for c in subject.order if drawn[:, c].any()], _SAMPLES)
    generator = numpy_generator(subject.experiment.run.seed, "samples")
    rows = np.array([generator.choice(np.flatnonzero(drawn[:, c])) for c in classes], np.int64)
    pixels = dataset.test.batch(rows)
    backbone.eval()
    images = prepare(pixels, dataset.mean, dataset.std, next(backbone.parameters()).device)
    features, maps = attention_maps(backbone, images)
    chances = None if subject.head is None else subject.head(features).sigmoid()
    return [
        {
            "class": c,
            "labels": np.flatnonzero(labels[row]).tolist(),
            "probability": None if chances is None else _number(chances[i, c].item()),
            "image": as_png(pixels[i].numpy()),
            "attention": maps[i, c].tolist(),
        }
        for i, (c, row) in enumerate(zip(classes, rows, strict=True))
    ]


_PARTS: dict[str, Callable[[AnalysisInput], Any]] = {
    "label_pairs": label_pairs,
    "prototypes": prototypes,
    "points": points,
    "attention": attention_samples,
}


def _no_features(subject: AnalysisInput) -> bool:
    """Whether there are no positives, or no generic backbone since BatchNorm is each site's own."""
    return METHODS[subject.experiment.method].local_norm or not subject.positives.any()


def head_and_tail(order: Sequence[int], count: int) -> list[int]:
    """Return the first and last of an order, `count` together, or all of it."""
    if len(order) <= count:
        return list(order)
    return [*order[: -(-count // 2)], *order[len(order) - count // 2 :]]


def as_png(pixels: npt.NDArray[np.uint8]) -> str:
    """Return an image [channels, H, W] as base64 of a PNG file, made smaller where it is large."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def prototype_cosine(run_folder: Path) -> float | None:
    """Return the mean cosine of two classes' prototypes, where images have several labels and it could be found."""
    path = run_folder / "analysis.json"
    analysis = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    cosine: float | None = (analysis.get("prototypes") or {}).get("mean_off_diagonal")
    return cosine
