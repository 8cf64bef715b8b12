"""The simulated or natural federation: which site holds which rows for training and for its own test."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from common.config import Experiment
from common.config.rows import keys_where
from common.data.federation import partition
from common.data.federation.composites import composite_dataset
from common.data.federation.deployed import coordinator_dataset
from common.data.federation.local_split import local_test_rows
from common.data.federation.longtail import long_tail_rows
from common.data.federation.multilabel_local_split import multilabel_test_rows
from common.data.federation.multilabel_partition import deal, everywhere
from common.data.federation.validation import hold_out
from common.data.images.pretrained import Moments, pretrained_moments
from common.data.images.source import Labels
from common.data.sources.checks import check_classes, class_notes
from common.data.sources.dataset import Dataset, label_counts, padded_names
from common.data.sources.loading import load_dataset, reduce
from common.errors import UserError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Federation:
    """A data set and K sites.

    Attributes:
        dataset: all images; its test images may be held-out training images, see `validation`.
        site_names: K names.
        train_rows: K sorted arrays of rows of `dataset.train`; no row is at two sites.
        test_rows: K sorted arrays of rows of `dataset.test`; simulated sites may share rows, unless images carry
            several labels.
        visible: bool [K, C], the labels that count at each site in losses and metrics; the others are hidden
            there, although `dataset` still has them. None where every image is of one class.
        partition_report: how images with several labels were dealt, see `PartitionReport`; else None.
    """

    dataset: Dataset
    site_names: tuple[str, ...]
    train_rows: tuple[Rows, ...]
    test_rows: tuple[Rows, ...]
    visible: npt.NDArray[np.bool_] | None = None
    partition_report: dict[str, Any] | None = None

    @cached_property
    def train_counts(self) -> npt.NDArray[np.int64]:
        """[K, C] training images of each site and class; of several labels, the visible positives."""
        return self._counts(self.train_rows, self.dataset.train.labels)

    @cached_property
    def test_counts(self) -> npt.NDArray[np.int64]:
        """[K, C] test images of each site and class; of several labels, the visible positives."""
        return self._counts(self.test_rows, self.dataset.test.labels)

    @property
    def class_counts(self) -> npt.NDArray[np.int64]:
        """[C] training images of all sites together, after the long tail."""
        return np.asarray(self.train_counts.sum(axis=0))

    def _counts(self, rows: tuple[Rows, ...], labels: Labels) -> npt.NDArray[np.int64]:
        if not rows:  # real sites report no counts
            return np.zeros((0, len(self.dataset.classes)), np.int64)
        counts = count_classes(rows, labels, len(self.dataset.classes))
        return counts if self.visible is None else counts * self.visible


def build_federation(experiment: Experiment) -> Federation:
    """Make the data long-tailed, deal it to the sites and draw their test splits; once a process and seed.

    With `partition: deployed` it is the coordinator's view: its test images and no site.
    With `partition: natural` the sites are the data set's own, whatever `sites` says, and where its test
    images name their site too, a site's test split is its own test images. With `evaluate-on: validation`
    images held out from the training images stand in for the test images everywhere. With `composites` the
    single-label images give way to composites of what the long tail leaves of them. With `keep-patients` all training
    images of a patient (or lesion) lie at one site; that does not reach composites, of two images each. With pretrained
    `weights` pixels are normalised as they expect.

    Raises:
        UserError: missing or malformed data, keys that do not go with its labels, or a partition or validation
            split that cannot be had.

    Example:
        >>> from common.config import build
        >>> federation = build_federation(build({"dataset": "digits", "sites": 4, "imbalance-factor": 10}))
        >>> federation.site_names, federation.train_counts.shape
        (('site-00', 'site-01', 'site-02', 'site-03'), (4, 10))
    """
    deployed = experiment.sites.partition == "deployed"
    found = _coordinators(experiment) if deployed else _build(reduce(experiment, {"look", "images", "sites"}))
    moments = pretrained_moments(experiment)
    return found if moments is None else _with_moments(found, moments)


def count_classes(rows: tuple[Rows, ...], labels: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Return [len(rows), classes] images of each class in each array of rows; see `label_counts`."""
    return np.stack([label_counts(labels[site_rows], classes) for site_rows in rows])


@lru_cache(maxsize=2)
def _with_moments(federation: Federation, moments: Moments) -> Federation:
    return replace(federation, dataset=replace(federation.dataset, mean=moments[0], std=moments[1]))


@lru_cache(maxsize=2)
def _coordinators(experiment: Experiment) -> Federation:
    return Federation(coordinator_dataset(experiment), (), (), ())


@lru_cache(maxsize=2)
def _build(experiment: Experiment) -> Federation:
    dataset = load_dataset(experiment)
    check_classes(dataset)
    _check_keys(experiment, dataset)
    if notes := class_notes(dataset):
        dataset = replace(dataset, notes=(*dataset.notes, *notes))
    if experiment.data.evaluate_on == "validation":
        dataset = hold_out(dataset, experiment.data.validation_share, experiment.run.seed)
    if dataset.multilabel:
        return _multilabel(experiment, dataset)
    rows = long_tail_rows(
        np.asarray(dataset.train.labels, np.int64),
        dataset.classes,
        experiment.data.head_class_size,
        experiment.data.imbalance_factor,
        experiment.run.seed,
    )
    if experiment.data.composites:
        return _multilabel(experiment, composite_dataset(dataset, rows, experiment))
    site_names, train_rows = _deal(experiment, dataset, rows)
    return Federation(dataset, site_names, train_rows, _test_rows(experiment, dataset, site_names, train_rows))


def _check_keys(experiment: Experiment, dataset: Dataset) -> None:
    """Refuse keys that do not go with the data set's labels, before anything is made of it."""
    multilabel = dataset.multilabel or experiment.data.composites
    wrong = {"one"} if multilabel else {"many"}
    if dataset.multilabel:
        wrong.add("one composed")
    values = experiment.dump()
    for key in sorted(keys_where(lambda facts: facts.labels in wrong and bool(facts.data))):
        if (value := values[key]) != experiment.default(key):
            kind = "several labels an image" if multilabel else "one class an image"
            raise UserError(
                f"{key} = {value}: '{dataset.name}' has {kind}, for which there is no such key; leave it out"
            )


def _deal(experiment: Experiment, dataset: Dataset, rows: Rows) -> tuple[tuple[str, ...], tuple[Rows, ...]]:
    minimum = experiment.sites.min_site_size
    if experiment.sites.partition == "natural":
        if dataset.train_sites is None:
            raise UserError(f"partition = 'natural': dataset '{dataset.name}' names no sites; use dirichlet or iid")
        return dataset.site_names, partition.natural(rows, dataset.train_sites[rows], dataset.site_names, minimum)
    names, groups = padded_names("site", np.arange(experiment.sites.sites)), _kept_together(experiment, dataset, rows)
    if experiment.sites.partition == "iid":
        return names, partition.iid(rows, experiment.sites.sites, minimum, experiment.run.seed, groups)
    labels = np.asarray(dataset.train.labels[rows], np.int64)
    options = (experiment.sites.sites, experiment.sites.dirichlet, minimum, experiment.run.seed, groups)
    return names, partition.dirichlet(rows, labels, *options)


def _kept_together(experiment: Experiment, dataset: Dataset, rows: Rows) -> Rows | None:
    """Return the patient of each row where all rows of one go to one site, else None."""
    if dataset.train_groups is None or not experiment.sites.keep_patients:
        return None
    return dataset.train_groups[rows]


def _test_rows(
    experiment: Experiment, dataset: Dataset, site_names: tuple[str, ...], train_rows: tuple[Rows, ...]
) -> tuple[Rows, ...]:
    if (own := _own_test_rows(experiment, dataset)) is not None:
        return own
    train_counts = count_classes(train_rows, dataset.train.labels, len(dataset.classes))
    labels = np.asarray(dataset.test.labels, np.int64)
    return local_test_rows(experiment.sites.local_test, train_counts, labels, site_names, experiment.run.seed)


def _own_test_rows(experiment: Experiment, dataset: Dataset) -> tuple[Rows, ...] | None:
    """Return the test images of each natural site, or None where they name no site."""
    if experiment.sites.partition != "natural" or dataset.test_sites is None:
        return None
    return partition.natural(np.arange(len(dataset.test)), dataset.test_sites, dataset.site_names, 0)


def _multilabel(experiment: Experiment, dataset: Dataset) -> Federation:
    train, test = (np.asarray(part.labels, np.bool_) for part in (dataset.train, dataset.test))
    rule, rows = experiment.sites.label_rule, np.arange(len(train))
    if experiment.sites.partition == "dirichlet":
        names = padded_names("site", np.arange(experiment.sites.sites))
        part = deal(
            *(rows, train, experiment.sites.sites, experiment.sites.dirichlet, experiment.sites.missing_classes, rule),
            *(experiment.sites.min_site_size, experiment.run.seed, _kept_together(experiment, dataset, rows)),
        )
    else:
        names, parts = _deal(experiment, dataset, rows)
        part = everywhere(parts, train)
    test_rows = _own_test_rows(experiment, dataset)
    if test_rows is None:
        test_rows = multilabel_test_rows(train, test, part, rule, experiment.run.seed)
    return Federation(dataset, names, part.rows, test_rows, part.visible, part.report.as_json())
