"""A fixed number of augmented views of each image, so that what a trunk makes of each is computed once.

View v of image i has the number v·N + i, of N images of a source; view and image decide it, with the run's seed.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.config import Experiment
from common.data.images.augmentation import Augmentation
from common.data.images.source import Rows
from common.seeds import numpy_generator


@dataclass(frozen=True)
class Views:
    """What views there are.

    Attributes:
        augment: how an image is changed.
        count: views an image.
        seed: the run's.
    """

    augment: str
    count: int
    seed: int

    def numbers(self, rows: Rows, images: int, generator: torch.Generator) -> Rows:
        """Draw a view of each image [n] of a source of so many, and return the views' numbers [n]."""
        drawn = torch.randint(self.count, (len(rows),), generator=generator)
        return drawn.numpy() * images + rows

    def apply(self, pixels: Tensor, numbers: Rows, images: int) -> Tensor:
        """Return views uint8 [B, C, H, W] by their numbers [B], of the pixels of their images."""
        seeds = torch.from_numpy(_seeds(self.seed, self.count * images)[numbers])
        return Augmentation(self.augment).view(pixels, seeds)


def views_of(experiment: Experiment) -> Views | None:
    """Return the views of an experiment's training images; None where each epoch has others, or images stay."""
    keys = experiment.train
    if not keys.cached_views or experiment.train_from is None or keys.augment == "none":
        return None
    return Views(keys.augment, keys.cached_views, experiment.run.seed)


@lru_cache(maxsize=2)
def _seeds(seed: int, views: int) -> npt.NDArray[np.int64]:
    return numpy_generator(seed, "views").integers(1 << 62, size=views)
