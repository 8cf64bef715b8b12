"""One pass of the backbone over images, in eval mode: every head is then evaluated on the same features."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.data import Dataset, ImageSource
from common.data.images.resident import BatchSlices
from common.data.images.transforms import Scaling
from common.models.backbones import Backbone
from common.models.trunk import behind_trunk, through_trunk, trunk_of

Change = Callable[[Tensor, slice], Tensor]

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
    trunk = trunk_of(backbone)
    inputs, labels = model_inputs(backbone, trunk, images, rows, dataset)
    for start in range(0, len(rows), EVAL_BATCH):
        part = slice(start, start + EVAL_BATCH)
        with behind_trunk(backbone, trunk):
            features = backbone(inputs(part))
        yield features, labels[part]


def model_inputs(
    model: nn.Module,
    trunk: Backbone | None,
    images: ImageSource,
    rows: npt.NDArray[np.int64],
    dataset: Dataset,
    change: Change | None = None,
    mix: Change | None = None,
) -> tuple[Callable[[slice], Tensor], Tensor]:
    """Return what takes a slice of the rows to what a model takes behind its trunk, and the labels [n] of all rows.

    Args:
        model: on the device where the input goes.
        trunk: of the model, see `trunk_of`; its cache serves where it has one, without `change` and `mix`.
        images: `dataset.train` or `dataset.test`.
        rows: which of its images, in the order of the slices.
        dataset: for the mean and standard deviation of its pixels.
        change: augmentation of a slice's uint8 pixels [B, channels, H, W].
        mix: likewise of its scaled images, with one another; what a trunk made of images could not stand for them.
    """
    device = next(model.parameters()).device
    outputs = None
    if trunk and trunk.trunk_cache and change is None and mix is None:
        outputs = trunk.trunk_cache.outputs(trunk, images, rows, dataset)
    batch = BatchSlices(images, rows, device)
    if outputs:
        return outputs.slices(rows), batch.labels
    scale = Scaling(dataset.mean, dataset.std, device)

    def inputs(part: slice) -> Tensor:
        pixels = batch.pixels(part) if change is None else change(batch.pixels(part), part)
        scaled = scale(pixels) if mix is None else mix(scale(pixels), part)
        return through_trunk(trunk, scaled) if trunk else scaled

    return inputs, batch.labels


def extract_features(
    backbone: nn.Module, images: ImageSource, rows: npt.NDArray[np.int64], dataset: Dataset
) -> tuple[Tensor, Tensor]:
    """Return features [n, d] and labels [n] of the given rows at once; with no rows both are empty."""
    batches = list(feature_batches(backbone, images, rows, dataset))
    if not batches:
        return torch.empty(0, 0), torch.empty(0, dtype=torch.int64)
    features, labels = zip(*batches, strict=True)
    return torch.cat(features), torch.cat(labels)
