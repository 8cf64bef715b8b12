"""One data set, as every loader returns it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.data.images.source import ImageSource, Labels, moments

_MOMENT_IMAGES = 10_000
MOMENT_FILES = 1_000  # of image files: photographs are slow to decode


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test images of C classes; each of one class, or with any number of labels (`multilabel`).

    Attributes:
        name: the word for it in a configuration; of composites, that of their images and "composites".
        classes: C names, in label order.
        train: training images.
        test: the coordinator's test images.
        train_sites: [N_train] index into `site_names`, or None where the data names no sites.
        test_sites: [N_test], or None where the test images belong to no site.
        site_names: the natural sites' names, or ().
        train_groups: [N_train] patient or lesion of each image, or None.
        test_groups: [N_test]; no group is on both sides.
        mean: of the training images, one a channel, in 0..1 units.
        std: likewise.
        train_names: N_train names, of files below the data's folder, or None where they have none to show.
        test_names: likewise, N_test.
        notes: what a person should know of the data, a line each: files skipped, images that occur twice, …
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSource
    test: ImageSource
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_sites: npt.NDArray[np.int64] | None = None
    test_sites: npt.NDArray[np.int64] | None = None
    site_names: tuple[str, ...] = ()
    train_groups: npt.NDArray[np.int64] | None = None
    test_groups: npt.NDArray[np.int64] | None = None
    train_names: tuple[str, ...] | None = None
    test_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def multilabel(self) -> bool:
        """Whether labels are bool [N, C], several or none an image, instead of one class index each."""
        return self.train.labels.dtype == np.bool_


def label_counts(labels: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Return [classes] images of each class; of several labels an image counts once for each."""
    if labels.dtype == np.bool_:
        return np.asarray(labels.sum(axis=0), np.int64)
    return np.bincount(labels, minlength=classes).astype(np.int64)


def training_moments(train: ImageSource, at_most: int = _MOMENT_IMAGES) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) of the training images per channel; see `images.moments`.

    `at_most` depends on the kind of data alone, never on where this machine keeps its pixels: they decide the result.
    """
    return moments(train, at_most)


def padded_names(prefix: str, values: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """Name sites by number so that sorting the names sorts the numbers: 'site-07', 'site-11'."""
    width = max(2, *(len(str(value)) for value in values)) if len(values) else 2
    return tuple(f"{prefix}-{value:0{width}d}" for value in values.tolist())
