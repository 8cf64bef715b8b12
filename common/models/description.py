"""What a finished model's file says of it in its header: pixels, classes, method, thresholds."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.config import Experiment, portable
from common.data import Dataset
from common.data.images.pretrained import interpolation_of
from common.data.images.source import Interpolation
from common.methods import METHODS

Side = Annotated[int, Field(ge=1)]


class Description(BaseModel):
    """What a model's file says of it.

    Attributes:
        classes: C names, in the order of the answers.
        multilabel: whether an image has any number of them, instead of one.
        channels: 1 (grey) or 3 (RGB).
        size: (H, W) in pixels.
        interpolation: by which images are resized to it.
        mean: subtracted from pixels in 0..1; one value a channel, or one for all; of grey
            images three where pretrained weights have three.
        std: by which they are then divided.
        method: a row of `common/methods`.
        rounds: of training.
        head: what lies under `head.*`; '' where the file holds several heads under their names.
        thresholds: head → [C], probabilities from which a label is a yes, tuned on images that no metric is of.
        present: [C], the classes that may be predicted; None: all.
        backbone: content hash of the whole backbone, by which a personal model knows its generic one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    classes: tuple[str, ...] = Field(min_length=1)
    multilabel: bool
    channels: int = Field(ge=1)
    size: tuple[Side, Side]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    interpolation: Interpolation = "bicubic"  # of all files that do not say
    method: str
    rounds: int
    head: str = ""
    thresholds: dict[str, tuple[float, ...]] = {}
    present: tuple[bool, ...] | None = None
    backbone: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.method not in METHODS:
            raise ValueError(f"method '{self.method}' is not known here")
        if {len(self.mean), len(self.std)} - {1, 3, self.channels}:
            raise ValueError("mean and std have another number of channels than the images")
        per_class = [*self.thresholds.values(), *([] if self.present is None else [self.present])]
        if any(len(values) != len(self.classes) for values in per_class):
            raise ValueError("thresholds or present have another number of classes")
        return self


def describe(
    experiment: Experiment,
    dataset: Dataset,
    thresholds: Mapping[str, tuple[float, ...]],
    **more: Any,
) -> Description:
    """Return the description of a model of this experiment and data.

    Args:
        experiment: the run.
        dataset: for its classes and pixels.
        thresholds: head → [C], left out where one is nan: nothing was there to tune them on.
        more: further fields of `Description`.
    """
    return Description(
        classes=dataset.classes,
        multilabel=dataset.multilabel,
        channels=dataset.train.channels,
        size=dataset.train.size,
        mean=dataset.mean,
        std=dataset.std,
        interpolation=interpolation_of(experiment),
        method=experiment.method,
        rounds=experiment.rounds.rounds,
        thresholds={name: values for name, values in thresholds.items() if not np.isnan(values).any()},
        **more,
    )


def header(experiment: Mapping[str, Any], about: Description) -> dict[str, str]:
    """Return the header of a model's file, which may be handed on: it names no folder of this machine."""
    return {"experiment": json.dumps(portable(experiment)), "model": about.model_dump_json()}
