"""A stratified draw: of each class about the same share of its images, patients whole, sites in proportion."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from common.data.images.source import Labels

Integers = npt.NDArray[np.int64]


def stratified_rows(
    labels: Labels,
    sites: Integers | None,
    groups: Integers | None,
    share: float,
    generator: np.random.Generator,
    order_of: Callable[[int], Integers],
    fixed: Mapping[int, bool] | None = None,
) -> Integers:
    """Return the sorted rows to hold out: round(share · n_c) of each class, at least one if n_c ≥ 2, never all.

    A class's number is spread over its sites in proportion to their images of it. Groups are held out whole or not
    at all, in a given order, each where that brings the numbers nearer to the wanted ones; so with groups the
    numbers are approximate, and a class in a single group has nothing held out. No site loses its last image.

    Where an image may carry several labels, it counts for each of them, images without any are one class more,
    and the numbers are approximate, too. Groups with the rarest label then come first, while common labels can
    still make up for what they bring (iterative stratification: Sechidis et al., ECML PKDD 2011), and what is
    nearer is measured in shares of the classes.

    Args:
        labels: [N] class indices, or bool [N, C].
        sites: [N] or None.
        groups: [N] patient or lesion of each image, or None: every image is its own.
        share: of each class's images, in (0, 1).
        generator: for a class's last image, where several sites have the same claim to it.
        order_of: of a number of groups returns their order; groups are numbered as `np.unique` sorts them.
        fixed: groups that are held out (True), or not, whatever the numbers are.
    """
    fixed = fixed or {}
    sites = np.zeros(len(labels), np.int64) if sites is None else sites
    rows, classes = _pairs(labels)
    sizes = np.bincount(classes)
    wanted = np.clip(np.rint(share * sizes).astype(np.int64), sizes >= 2, np.maximum(sizes - 1, 0))
    cells, cell_of = np.unique(sites[rows] * len(sizes) + classes, return_inverse=True)  # (site, class) that exist
    wanted_of_cells = _spread(wanted, np.bincount(cell_of), cells % len(sizes), generator)
    by_class, by_cell = (_of_each_image(rows, keys, len(labels)) for keys in (classes, cell_of))
    draw = _Draw(by_class, [[site] for site in sites.tolist()], groups)
    order = [group for group in order_of(len(draw.members)).tolist() if group not in fixed]
    for group in sorted(group for group, held in fixed.items() if held):
        draw.hold(group)
    weights = np.ones(len(sizes))
    if labels.dtype == np.bool_:
        rarest = [min(sizes[c] for row in group for c in by_class[row]) for group in draw.members]
        order.sort(key=lambda group: rarest[group])
        weights = 1 / np.maximum(sizes, 1)
    draw.fill(order, by_cell, wanted_of_cells, weights[cells % len(sizes)])
    draw.fill(order, by_class, wanted, weights)  # what no site could give exactly
    draw.fill_empty(sorted(order, key=lambda group: len(draw.members[group])), wanted)
    return np.array(sorted(row for group in draw.held for row in draw.members[group]), np.int64)


def _pairs(labels: Labels) -> tuple[Integers, Integers]:
    """Return the (row, class) pairs of the labels, by row; images without any have class C."""
    if labels.dtype != np.bool_:
        return np.arange(len(labels)), np.asarray(labels, np.int64)
    rows, classes = np.nonzero(np.hstack([labels, ~labels.any(axis=1, keepdims=True)]))
    return rows, classes


def _of_each_image(rows: Integers, keys: Integers, images: int) -> list[list[int]]:
    """Collect the pairs' keys by image; `rows` ascends."""
    if len(rows) == images and (np.diff(rows) > 0).all():  # one each
        return [[key] for key in keys.tolist()]
    return [part.tolist() for part in np.split(keys, np.cumsum(np.bincount(rows, minlength=images))[:-1])]


def _spread(wanted: Integers, cell_sizes: Integers, cell_classes: Integers, generator: np.random.Generator) -> Integers:
    """Split each class's number over its cells by largest remainder, ties by chance.

    Args:
        wanted: [C].
        cell_sizes: [M] images of each pair (site, class).
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

    def __init__(self, classes: list[list[int]], sites: list[list[int]], groups: Integers | None) -> None:
        self.held: set[int] = set()
        inverse = np.arange(len(classes)) if groups is None else np.unique(groups, return_inverse=True)[1]
        by_group = np.argsort(inverse, kind="stable")
        ends = np.cumsum(np.bincount(inverse))
        self.members = [part.tolist() for part in np.split(by_group, ends[:-1])]
        self._classes = classes
        self._of = (classes, sites)
        self._left = tuple(Counter(key for keys in values for key in keys) for values in self._of)

    def fill(
        self, order: list[int], strata: list[list[int]], wanted: Integers, weights: npt.NDArray[np.float64]
    ) -> None:
        """Hold out each group that brings its strata nearer to their wanted numbers.

        Args:
            order: of the groups.
            strata: of each image.
            wanted: one number a stratum.
            weights: of a stratum's distance from it, in the sum over strata.
        """
        weight = weights.tolist()
        held = Counter(stratum for group in self.held for stratum in self._keys(strata, group))
        missing = [number - held[stratum] for stratum, number in enumerate(wanted.tolist())]
        for group in order:
            counts = Counter(self._keys(strata, group))
            nearer = sum(weight[s] * (abs(missing[s] - n) - abs(missing[s])) for s, n in counts.items()) < 0
            if nearer and self._take(group):
                for stratum, n in counts.items():
                    missing[stratum] -= n

    def fill_empty(self, order: list[int], wanted: Integers) -> None:
        """Give each class that wants images and has none the first group of the order that can be spared."""
        held = {c for group in self.held for c in self._keys(self._classes, group)}
        empty = set(np.flatnonzero(wanted).tolist()) - held
        for group in order if empty else ():
            classes = set(self._keys(self._classes, group))
            if classes & empty and self._take(group):
                empty -= classes

    def _keys(self, values: list[list[int]], group: int) -> Iterator[int]:
        return (key for row in self.members[group] for key in values[row])

    def _take(self, group: int) -> bool:
        counts = [Counter(self._keys(values, group)) for values in self._of]
        pairs = list(zip(self._left, counts, strict=True))
        if group in self.held or any(left[key] <= n for left, lost in pairs for key, n in lost.items()):
            return False
        self.hold(group)
        return True

    def hold(self, group: int) -> None:
        """Hold a group out, whatever is left without it."""
        for left, values in zip(self._left, self._of, strict=True):
            left.subtract(Counter(self._keys(values, group)))
        self.held.add(group)
