"""The simulated or natural federation: which site holds which rows for training and for its own test."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from common.config import Experiment
from common.data import partition
from common.data.dataset import Dataset, padded_names
from common.data.loading import DATASET_FIELDS, load_dataset, reduce
from common.data.local_split import local_test_rows
from common.data.longtail import long_tail_rows
from common.data.validation import hold_out
from common.errors import UserError

Rows = npt.NDArray[np.int64]

FEDERATION_FIELDS = (
    *DATASET_FIELDS,
    *(
        "seed",
        "head_class_size",
        "imbalance_factor",
        "partition",
        "sites",
        "dirichlet",
        "min_site_size",
        "local_test",
        "evaluate_on",
        "validation_share",
    ),
)


@dataclass(frozen=True, eq=False)
class Federation:
    """A data set and K sites.

    Attributes:
        dataset: all images; its test images may be held-out training images, see `validation`.
        site_names: K names.
        train_rows: K sorted arrays of rows of `dataset.train`; no row is at two sites.
        test_rows: K sorted arrays of rows of `dataset.test`; simulated sites may share rows.
    """

    dataset: Dataset
    site_names: tuple[str, ...]
    train_rows: tuple[Rows, ...]
    test_rows: tuple[Rows, ...]

    @cached_property
    def train_counts(self) -> npt.NDArray[np.int64]:
        """[K, C] training images of each site and class."""
        return count_classes(self.train_rows, self.dataset.train.labels, len(self.dataset.classes))

    @cached_property
    def test_counts(self) -> npt.NDArray[np.int64]:
        """[K, C] test images of each site and class."""
        return count_classes(self.test_rows, self.dataset.test.labels, len(self.dataset.classes))

    @property
    def class_counts(self) -> npt.NDArray[np.int64]:
        """[C] training images of all sites together, after the long tail."""
        return np.asarray(self.train_counts.sum(axis=0))


def build_federation(experiment: Experiment) -> Federation:
    """Make the data long-tailed, deal it to the sites and draw their test splits; once a process and seed.

    With `partition: natural` the sites are the data set's own, whatever `sites` says, and where its test
    images name their site too, a site's test split is its own test images. With `evaluate-on: validation`
    images held out from the training images stand in for the test images everywhere.

    Raises:
        UserError: missing or malformed data, or a partition or validation split that cannot be had.
    """
    return _build(reduce(experiment, FEDERATION_FIELDS))


def count_classes(rows: tuple[Rows, ...], labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int64]:
    """Return [len(rows), classes] images of each class in each array of rows."""
    return np.stack([np.bincount(labels[site_rows], minlength=classes) for site_rows in rows]).astype(np.int64)


@lru_cache(maxsize=2)
def _build(experiment: Experiment) -> Federation:
    dataset = load_dataset(experiment)
    if experiment.evaluate_on == "validation":
        dataset = hold_out(dataset, experiment.validation_share, experiment.seed)
    rows = long_tail_rows(
        dataset.train.labels,
        dataset.classes,
        experiment.head_class_size,
        experiment.imbalance_factor,
        experiment.seed,
    )
    site_names, train_rows = _deal(experiment, dataset, rows)
    return Federation(dataset, site_names, train_rows, _test_rows(experiment, dataset, site_names, train_rows))


def _deal(experiment: Experiment, dataset: Dataset, rows: Rows) -> tuple[tuple[str, ...], tuple[Rows, ...]]:
    minimum = experiment.min_site_size
    if experiment.partition == "natural":
        if dataset.train_sites is None:
            raise UserError(f"partition = 'natural': dataset '{dataset.name}' names no sites; use dirichlet or iid")
        return dataset.site_names, partition.natural(rows, dataset.train_sites[rows], dataset.site_names, minimum)
    names = padded_names("site", np.arange(experiment.sites))
    if experiment.partition == "iid":
        return names, partition.iid(rows, experiment.sites, minimum, experiment.seed)
    labels = dataset.train.labels[rows]
    return names, partition.dirichlet(rows, labels, experiment.sites, experiment.dirichlet, minimum, experiment.seed)


def _test_rows(
    experiment: Experiment, dataset: Dataset, site_names: tuple[str, ...], train_rows: tuple[Rows, ...]
) -> tuple[Rows, ...]:
    if experiment.partition == "natural" and dataset.test_sites is not None:
        return partition.natural(np.arange(len(dataset.test)), dataset.test_sites, site_names, 0)
    train_counts = count_classes(train_rows, dataset.train.labels, len(dataset.classes))
    return local_test_rows(experiment.local_test, train_counts, dataset.test.labels, site_names, experiment.seed)
