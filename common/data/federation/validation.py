"""A validation split: images held out from the training images, for choices that must not see the test images."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from common.data.images.source import ImageSource, Labels
from common.data.sources.dataset import Dataset
from common.data.sources.stratified import stratified_rows
from common.errors import UserError
from common.seeds import numpy_generator

Integers = npt.NDArray[np.int64]


class SubsetImages:
    """Some rows of another source, in their order; pixels and files stay where they are.

    Args:
        source: N images.
        rows: [n] rows of `source`; row i here is `rows[i]` there.
    """

    def __init__(self, source: ImageSource, rows: Integers) -> None:
        self.labels: Labels = source.labels[rows]
        self.channels = source.channels
        self.size = source.size
        self._source, self._rows = source, rows

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Integers) -> torch.Tensor:
        """Return the images of these rows as uint8 [B, C, H, W]."""
        return self._source.batch(self._rows[rows])


def hold_out(dataset: Dataset, share: float, seed: int) -> Dataset:
    """Return the data set with held-out training images in place of its test images, which are left behind.

    The long tail is made afterwards, of what remains: where `head-class-size` is below that (1,500 of 4,800), the
    training set is as large as without a validation split; otherwise it is smaller by the share.
    Held-out images keep their sites and groups. `mean` and `std` stay those of all training images.

    Args:
        dataset: as loaded.
        share: of each class's training images, see `held_out_rows`.
        seed: the run's.

    Raises:
        UserError: no image can be held out.
    """
    rows = np.arange(len(dataset.train))
    held = held_out_rows(dataset.train.labels, dataset.train_sites, dataset.train_groups, share, seed)
    if not len(held):
        raise UserError(
            f"evaluate-on = 'validation': dataset '{dataset.name}' has no training image to spare: its classes or "
            "sites have only one each, or one group-key group each"
        )
    kept = np.setdiff1d(rows, held)
    sites, groups, names = dataset.train_sites, dataset.train_groups, dataset.train_names
    return replace(
        dataset,
        train=SubsetImages(dataset.train, kept),
        test=SubsetImages(dataset.train, held),
        train_sites=None if sites is None else sites[kept],
        test_sites=None if sites is None else sites[held],
        train_groups=None if groups is None else groups[kept],
        test_groups=None if groups is None else groups[held],
        train_names=None if names is None else tuple(names[row] for row in kept.tolist()),
        test_names=None if names is None else tuple(names[row] for row in held.tolist()),
    )


def held_out_rows(labels: Labels, sites: Integers | None, groups: Integers | None, share: float, seed: int) -> Integers:
    """Return the sorted rows to hold out: `stratified_rows` in random order.

    Args:
        labels: [N] class indices, or bool [N, C].
        sites: [N] or None.
        groups: [N] patient or lesion of each image, or None: every image is its own.
        share: of each class's images, in (0, 1).
        seed: the run's.
    """
    generator = numpy_generator(seed, "validation")
    return stratified_rows(labels, sites, groups, share, generator, generator.permutation)
