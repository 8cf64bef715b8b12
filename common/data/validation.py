"""A validation split: images held out from the training images, for choices that must not see the test images."""

from collections import Counter
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from common.data.dataset import Dataset
from common.data.images import ImageSource
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
        self.labels = source.labels[rows]
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
    sites, groups = dataset.train_sites, dataset.train_groups
    return replace(
        dataset,
        train=SubsetImages(dataset.train, kept),
        test=SubsetImages(dataset.train, held),
        train_sites=None if sites is None else sites[kept],
        test_sites=None if sites is None else sites[held],
        train_groups=None if groups is None else groups[kept],
        test_groups=None if groups is None else groups[held],
    )


def held_out_rows(
    labels: Integers, sites: Integers | None, groups: Integers | None, share: float, seed: int
) -> Integers:
    """Return the sorted rows to hold out: round(share · n_c) of each class, at least one if n_c ≥ 2, never all.

    A class's number is spread over its sites in proportion to their images of it. Groups are held out whole or not
    at all, in random order, each where that brings the numbers nearer to the wanted ones; so with groups the
    numbers are approximate, and a class in a single group has nothing held out. No site loses its last image.

    Args:
        labels: [N] class indices.
        sites: [N] or None.
        groups: [N] patient or lesion of each image, or None: every image is its own.
        share: of each class's images, in (0, 1).
        seed: the run's.
    """
    generator = numpy_generator(seed, "validation")
    sites = np.zeros_like(labels) if sites is None else sites
    sizes = np.bincount(labels)
    wanted = np.clip(np.rint(share * sizes).astype(np.int64), sizes >= 2, np.maximum(sizes - 1, 0))
    cells, cell_of = np.unique(sites * len(sizes) + labels, return_inverse=True)  # (site, class) pairs that exist
    wanted_of_cells = _spread(wanted, np.bincount(cell_of), cells % len(sizes), generator)
    draw = _Draw(labels, sites, groups)
    order = generator.permutation(len(draw.members)).tolist()
    draw.fill(order, cell_of, wanted_of_cells)
    draw.fill(order, labels, wanted)  # what no site could give exactly
    draw.fill_empty(sorted(order, key=lambda group: len(draw.members[group])), wanted)
    return np.array(sorted(row for group in draw.held for row in draw.members[group]), np.int64)


def _spread(wanted: Integers, cell_sizes: Integers, cell_classes: Integers, generator: np.random.Generator) -> Integers:
    """Split each class's number over its cells by largest remainder, ties by chance.

    Args:
        wanted: [C].
        cell_sizes: [M] images of each (site, class) pair.
        cell_classes: [M] the pair's class.
        generator: for the ties.
    """
    class_sizes = np.bincount(cell_classes, cell_sizes, len(wanted)).astype(np.int64)
    counts, remainders = np.divmod(wanted[cell_classes] * cell_sizes, class_sizes[cell_classes])
    missing = wanted - np.bincount(cell_classes, counts, len(wanted)).astype(np.int64)
    order = np.lexsort((generator.random(len(counts)), -remainders, cell_classes))
    cells_of_class = np.bincount(cell_classes, minlength=len(wanted))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(cells_of_class) - cells_of_class, cells_of_class)
    counts[order] += rank < missing[cell_classes[order]]
    return np.asarray(counts, np.int64)


class _Draw:
    """Holds groups out one by one; every class and every site keeps an image to train on."""

    def __init__(self, labels: Integers, sites: Integers, groups: Integers | None) -> None:
        self.held: set[int] = set()
        inverse = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
        by_group = np.argsort(inverse, kind="stable")
        ends = np.cumsum(np.bincount(inverse))
        self.members = [part.tolist() for part in np.split(by_group, ends[:-1])]
        self._labels = labels.tolist()
        self._of = (self._labels, sites.tolist())
        self._left = tuple(Counter(values) for values in self._of)

    def fill(self, order: list[int], stratum_of: Integers, wanted: Integers) -> None:
        """Hold out each group that brings its strata nearer to their wanted numbers.

        Args:
            order: of the groups.
            stratum_of: [N] each image's stratum.
            wanted: one number a stratum.
        """
        strata = stratum_of.tolist()
        held = Counter(strata[row] for group in self.held for row in self.members[group])
        missing = [number - held[stratum] for stratum, number in enumerate(wanted.tolist())]
        for group in order:
            counts = Counter(strata[row] for row in self.members[group])
            nearer = sum(abs(missing[s] - n) - abs(missing[s]) for s, n in counts.items()) < 0
            if nearer and self._take(group):
                for stratum, n in counts.items():
                    missing[stratum] -= n

    def fill_empty(self, order: list[int], wanted: Integers) -> None:
        """Give each class that wants images and has none the first group of the order that can be spared."""
        held = {self._labels[row] for group in self.held for row in self.members[group]}
        empty = set(np.flatnonzero(wanted).tolist()) - held
        for group in order if empty else ():
            classes = {self._labels[row] for row in self.members[group]}
            if classes & empty and self._take(group):
                empty -= classes

    def _take(self, group: int) -> bool:
        counts = [Counter(values[row] for row in self.members[group]) for values in self._of]
        pairs = list(zip(self._left, counts, strict=True))
        if group in self.held or any(left[key] <= n for left, lost in pairs for key, n in lost.items()):
            return False
        for left, lost in pairs:
            left.subtract(lost)
        self.held.add(group)
        return True
