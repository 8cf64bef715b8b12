"""Batches by hand, for tests that write a training loop out: the one step of theirs that is not what they compare."""

from torch import Tensor, tensor

from common.data import Dataset
from common.data.images.source import Rows


def normalised(dataset: Dataset, rows: Rows) -> Tensor:
    """Return training images as (x/255 − mean)/std."""
    pixels = dataset.train.batch(rows).float() / 255
    return (pixels - tensor(dataset.mean).view(-1, 1, 1)) / tensor(dataset.std).view(-1, 1, 1)
