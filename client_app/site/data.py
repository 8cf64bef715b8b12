"""A real site's own images as a data set of the experiment.

The experiment decides what all sites must agree on: the classes and their order, whether an image has one label or
several, the moments of the pixels, the size, and, by how many values the moments have, whether images are grey (one)
or RGB (three). Every image is made so, whatever it is: grey becomes three equal channels, colour its luminance.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from client_app.site.archived_images import ArchivedImages
from client_app.site.config import SiteConfig
from client_app.site.duplicates import cached_notes, duplicate_notes
from client_app.site.listing import Listing, check_class_map, find_class, list_images, save_splits
from client_app.site.withdrawn import read_withdrawn
from common.config import Experiment
from common.data import Dataset
from common.data.federation.deployed import as_agreed
from common.data.federation.validation import SubsetImages
from common.data.images.bad_images import BadImagesError, skip_bad_images, without_rows
from common.data.images.encoded import FileImages
from common.data.images.pixel_cache import Encoded, cached
from common.data.images.pretrained import interpolation_of, pretrained_moments
from common.data.images.source import ArrayImages, ImageSource, Labels, relabelled
from common.data.sources import npz
from common.data.sources.animations import animation_notes
from common.data.sources.archive import Archive
from common.data.sources.splits import SPLITS
from common.errors import UserError
from common.logs import configure_logger

log = logging.getLogger("fednc")

_KEPT = 4  # sets of decoded images; an archive has two
Flags = npt.NDArray[np.bool_]


def load_site_data(config: SiteConfig, experiment: Experiment) -> Dataset:
    """Return the site's training and test images, either of which may lack classes, the test images altogether.

    Splits are the data's own where it names them, else drawn once and kept in the site's state; see `draw_splits`.

    Raises:
        UserError: naming the row of an image that is missing, unreadable or of an unknown class; an experiment
            without what sites must agree on; fewer training images than the site's policy asks for.
    """
    return load_labelled_data(config, experiment)[0]


def load_labelled_data(config: SiteConfig, experiment: Experiment) -> tuple[Dataset, Flags | None]:
    """Return the site's images, and bool [C] which classes it labels at all; None: all, or it does not say.

    Only of a manifest with a column for each class is it known: without a column, absence and not having looked are
    the same. Arguments and errors as of `load_site_data`.
    """
    classes = agreed_classes(experiment)
    labelled: Sequence[str] | None = None
    if config.data.suffix.lower() == ".npz":
        dataset = _of_archive(config, experiment, classes)
    else:
        listing = list_images(config, classes)
        save_splits(config, listing)
        dataset, labelled = _of_files(config, experiment, listing, classes), listing.labelled
    if len(dataset.train) < config.policy.min_images:
        raise UserError(
            f"site '{config.name}' has {len(dataset.train)} training images; its policy's min-images is "
            f"{config.policy.min_images}"
        )
    if labelled is None or set(labelled) == set(classes):
        return dataset, None
    return dataset, np.array([name in labelled for name in classes])


def agreed_classes(experiment: Experiment) -> tuple[str, ...]:
    """Return the experiment's classes; raise `UserError` where it does not say what real sites must agree on."""
    if experiment.sites.partition != "deployed" or experiment.data.classes is None:
        raise UserError(f"partition = '{experiment.sites.partition}': a site's own data needs 'deployed' and classes")
    if experiment.data.image_size is None:
        raise UserError("partition = 'deployed' needs image-size, so that the images of all sites are of one size")
    return experiment.data.classes


def agreed_channels(experiment: Experiment) -> int:
    """Return 3 (RGB) where pixel-mean or pixel-std has three values, else 1 (grey)."""
    return max(len(experiment.data.pixel_mean), len(experiment.data.pixel_std))


def _dataset(config: SiteConfig, experiment: Experiment, train: ImageSource, test: ImageSource, **more: Any) -> Dataset:
    channels = agreed_channels(experiment)
    mean, std = (
        values * (channels // len(values)) for values in (experiment.data.pixel_mean, experiment.data.pixel_std)
    )
    mean, std = pretrained_moments(experiment) or (mean, std)
    return Dataset(config.name, agreed_classes(experiment), train, test, mean, std, **more)


def _of_files(config: SiteConfig, experiment: Experiment, listing: Listing, classes: tuple[str, ...]) -> Dataset:
    images = listing.images
    labels = _labels(config, listing, experiment, classes)
    root = config.data if config.data.is_dir() else config.data.parent
    paths, places = [image.path for image in images], [image.place for image in images]
    channels = agreed_channels(experiment)
    look = experiment.data.depth, interpolation_of(experiment)
    files = FileImages(paths, labels, experiment.data.image_size, channels, places, *look)
    try:
        source = _cached(files, config)
    except BadImagesError as bad:
        note = skip_bad_images([bad.failures], bad.total, experiment.data.skip_bad_images, root)
        rest = without_rows(images, bad.failures)
        return _of_files(config, experiment, replace(listing, images=rest, notes=(*listing.notes, note)), classes)
    parts = [np.flatnonzero([image.split == side for image in images]) for side in SPLITS]
    train, test = (SubsetImages(source, rows) for rows in parts)
    notes = (*listing.notes, *duplicate_notes(config, images))
    patients, numbers = np.unique([image.patient for image in images], return_inverse=True)
    notes += animation_notes(paths, root)
    more: dict[str, Any] = {"notes": notes}
    if patients.tolist() != [""]:
        more["train_groups"], more["test_groups"] = (numbers[rows].astype(np.int64) for rows in parts)
    return _dataset(config, experiment, train, test, **more)


def _cached(source: Encoded, config: SiteConfig) -> ImageSource:
    """Return the images from the site's own cache; what the experiment says of caches is the coordinator's."""
    # in the site's own log: how far it is, and what is not as it should be
    configure_logger(log, "%(asctime)s %(message)s")
    images, failures = cached(source, config.cache, _KEPT)
    if failures:
        raise BadImagesError(failures, len(source))
    return images


def _labels(config: SiteConfig, listing: Listing, experiment: Experiment, classes: tuple[str, ...]) -> Labels:
    """Return [n] class indices, or bool [n, C] where the experiment's images have several labels."""
    flags = np.zeros((len(listing.images), len(classes)), np.bool_)
    for i, image in enumerate(listing.images):
        flags[i, [classes.index(label) for label in image.labels]] = True
    labels = flags if listing.multilabel else flags.argmax(axis=1).astype(np.int64)
    return as_agreed(labels, experiment, f"site '{config.name}'")


def _of_archive(config: SiteConfig, experiment: Experiment, classes: tuple[str, ...]) -> Dataset:
    """Read an .npz of `common/data/sources/npz.py`; patients are its array `patient`, if it has one."""
    if read_withdrawn(config):
        raise UserError(f"{config.data}: patients have withdrawn, and an archive has to be written without them")
    check_class_map(config, classes)
    archive, channels, side_length = Archive(config.data), agreed_channels(experiment), experiment.data.image_size or 0
    key = "patient" if "patient" in archive or "patient_train" in archive else None

    def keep(side: str, labels: Labels, opened: Callable[[], npz.Opened]) -> ImageSource:
        look = experiment.data.depth, interpolation_of(experiment)
        source = ArchivedImages(config.data, side, labels, channels, side_length, opened, *look)
        return _cached(source, config)

    own = experiment.replace(data_dir=config.data, site_key=None, group_key=key)
    stored = npz.load(own, keep, look_for_copies=False)
    notes = (*cached_notes(config, [config.data], None, lambda: npz.notes_of(archive)), *stored.notes)
    try:
        columns = [classes.index(find_class(config, name, classes)) for name in stored.classes]
    except UserError as error:
        raise UserError(f"{config.data}: {error}") from None
    train, test = (_relabelled(part, config, experiment, columns) for part in (stored.train, stored.test))
    groups = {"train_groups": stored.train_groups, "test_groups": stored.test_groups}
    return _dataset(config, experiment, train, test, **groups, notes=notes)


def _relabelled(images: ImageSource, config: SiteConfig, experiment: Experiment, columns: list[int]) -> ArrayImages:
    """Return an archive's images with the experiment's classes; `columns`: each class's index there."""
    pixels = images.pixels if isinstance(images, ArrayImages) else images.batch(np.arange(len(images))).numpy()
    labels = relabelled(images.labels, columns, len(experiment.data.classes or ()))
    return ArrayImages(pixels, as_agreed(labels, experiment, f"site '{config.name}'"))
