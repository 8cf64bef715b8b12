"""One pass of the backbone over images, in eval mode: every head is then evaluated on the same features."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.data import Dataset, ImageSource
from common.data.images.resident import BatchSlices
from common.data.images.transforms import Scaling

EVAL_BATCH = 512  # images a forward pass: enough to fill a processor, few enough for any GPU


@torch.no_grad()
def feature_batches(
    backbone: nn.Module, images: ImageSource, rows: npt.NDArray[np.int64], dataset: Dataset
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield features [b, d] and labels [b] of the given rows in order, on the backbone's device.

    Args:
        backbone: images [B, channels, H, W] → features [B, d]; put into eval mode.
        images: `dataset.train` or `dataset.test`.
        rows: which of its images.
        dataset: for the mean and standard deviation of its pixels.
    """
    backbone.eval()
    device = next(backbone.parameters()).device
    batch, scale = BatchSlices(images, rows, device), Scaling(dataset.mean, dataset.std, device)
    for start in range(0, len(rows), EVAL_BATCH):
        part = slice(start, start + EVAL_BATCH)
        yield backbone(scale(batch.pixels(part))), batch.labels[part]


def extract_features(
    backbone: nn.Module, images: ImageSource, rows: npt.NDArray[np.int64], dataset: Dataset
) -> tuple[Tensor, Tensor]:
    """Return features [n, d] and labels [n] of the given rows at once; with no rows both are empty."""
    batches = list(feature_batches(backbone, images, rows, dataset))
    if not batches:
        return torch.empty(0, 0), torch.empty(0, dtype=torch.int64)
    features, labels = zip(*batches, strict=True)
    return torch.cat(features), torch.cat(labels)
