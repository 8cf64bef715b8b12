"""One pass of the backbone over images, in eval mode: every head is then evaluated on the same features."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.data import Dataset, ImageSource
from common.data.images.resident import BatchSlices
from common.data.images.source import Rows
from common.data.images.transforms import Scaling
from common.data.images.views import Views
from common.models.backbones import Backbone
from common.models.trunk import behind_trunk, check_finite, through_trunk, trunk_of


@dataclass(frozen=True)
class Change:
    """How the images of some rows are changed before a model sees them.

    Attributes:
        apply: takes a slice's uint8 pixels [B, channels, H, W].
        views: which fixed views they become, so that a cache may have them; None: each time others.
        numbers: of those views [n].
    """

    apply: Callable[[Tensor, slice], Tensor]
    views: Views | None = None
    numbers: Rows | None = None


EVAL_BATCH = 512  # images a forward pass: enough to fill a processor, few enough for any GPU


@torch.no_grad()
def feature_batches(
    backbone: nn.Module, images: ImageSource, rows: Rows, dataset: Dataset
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
    rows: Rows,
    dataset: Dataset,
    change: Change | None = None,
    mix: Callable[[Tensor, slice], Tensor] | None = None,
) -> tuple[Callable[[slice], Tensor], Tensor]:
    """Return what takes a slice of the rows to what a model takes behind its trunk, and the labels [n] of all rows.

    Args:
        model: on the device where the input goes.
        trunk: of the model, see `trunk_of`; its cache serves where it has one, and images are what they were before.
        images: `dataset.train` or `dataset.test`.
        rows: which of its images, in the order of the slices.
        dataset: for the mean and standard deviation of its pixels.
        change: augmentation.
        mix: takes a slice's scaled images; the cache has none for what is mixed.

    Raises:
        UserError: here or at the first slice: what the trunk makes of images is not finite.
    """
    device = next(model.parameters()).device
    outputs, views = None, change.views if change else None
    cached = rows if change is None or change.numbers is None else change.numbers
    if trunk and trunk.trunk_cache and mix is None and (change is None or views):
        outputs = trunk.trunk_cache.outputs(trunk, images, cached, dataset, views)
    batch = BatchSlices(images, rows, device)
    if outputs:
        return outputs.slices(cached), batch.labels
    scale = Scaling(dataset.mean, dataset.std, device)

    def inputs(part: slice) -> Tensor:
        pixels = batch.pixels(part) if change is None else change.apply(batch.pixels(part), part)
        scaled = scale(pixels) if mix is None else mix(scale(pixels), part)
        if trunk is None:
            return scaled
        output = through_trunk(trunk, scaled)
        if part.start == 0:  # damaged weights show in the first batch; to look at each would make a GPU wait
            check_finite(output, trunk.trunk_precision)
        return output

    return inputs, batch.labels


def extract_features(backbone: nn.Module, images: ImageSource, rows: Rows, dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Return features [n, d] and labels [n] of the given rows at once; with no rows both are empty."""
    batches = list(feature_batches(backbone, images, rows, dataset))
    if not batches:
        return torch.empty(0, 0), torch.empty(0, dtype=torch.int64)
    features, labels = zip(*batches, strict=True)
    return torch.cat(features), torch.cat(labels)
