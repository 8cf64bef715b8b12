"""What the coordinator of real sites sees: its own test images, if it has any, and nobody's training images."""

import numpy as np

from common.config import Experiment
from common.data.federation.validation import SubsetImages
from common.data.images.source import ArrayImages, Labels, relabelled
from common.data.sources.dataset import Dataset
from common.data.sources.loading import load_dataset
from common.errors import RefusalError, UserError, did_you_mean
from common.methods import METHODS
from common.names import closest


def coordinator_dataset(experiment: Experiment) -> Dataset:
    """Return the coordinator's test images with the classes that all sites agree on, and no training images.

    Where `data-dir` names none, there are no test images either, and no generic metrics.

    Raises:
        UserError: the test images have a class that the experiment does not know, another number of channels, or
            several labels where the experiment has one an image.
    """
    classes, channels = experiment.data.classes or (), len(experiment.data.pixel_mean)
    if experiment.data.data_dir is None:
        size = experiment.data.image_size or 32
        pixels = np.zeros((0, channels, size, size), np.uint8)
        nothing = ArrayImages(pixels, as_agreed(np.zeros(0, np.int64), experiment, "deployed"))
        return Dataset("deployed", classes, nothing, nothing, experiment.data.pixel_mean, experiment.data.pixel_std)
    dataset = load_dataset(experiment)
    if dataset.test.channels != channels:
        raise UserError(
            f"pixel-mean has {channels} value(s), but the coordinator's test images {dataset.test.channels} channel(s)"
        )
    test = _with_classes(dataset, classes)
    test.labels = as_agreed(test.labels, experiment, f"the coordinator's test images ({dataset.name})")
    none = SubsetImages(test, np.empty(0, np.int64))
    moments = experiment.data.pixel_mean, experiment.data.pixel_std
    return Dataset(dataset.name, classes, none, test, *moments, notes=dataset.notes)


def as_agreed(labels: Labels, experiment: Experiment, whose: str) -> Labels:
    """Return labels as the coordinator and all sites have them: one an image, or several.

    Args:
        labels: class indices [N] or bool [N, C]; one an image is a special case of several, and not the reverse.
        experiment: says which.
        whose: for the error.

    Raises:
        RefusalError: images have several labels, and the experiment has one an image.
    """
    if experiment.agreed_labels == "one" and labels.dtype == np.bool_:
        takes_many = METHODS[experiment.method].labels == "any"
        fix = "set labels: many" if takes_many else "choose a method for several labels"
        raise RefusalError(
            f"{whose}: images have several labels each, but one each in this experiment (method = "
            f"'{experiment.method}'): all sites must have one label an image, or the coordinator must {fix}"
        )
    if experiment.agreed_labels == "many" and labels.dtype != np.bool_:
        return np.asarray(labels[:, None] == np.arange(len(experiment.data.classes or ())))
    return labels


def _with_classes(dataset: Dataset, classes: tuple[str, ...]) -> SubsetImages:
    """Return the test images with their labels in the order of these classes, all of which need not be there."""
    for name in dataset.classes:
        if name not in classes:
            hint = did_you_mean(closest(name, classes)).rstrip() or f"known: {', '.join(classes)}"
            raise UserError(f"{dataset.name}: class '{name}' is not one of the experiment's classes: {hint}")
    test = SubsetImages(dataset.test, np.arange(len(dataset.test), dtype=np.int64))
    test.labels = relabelled(dataset.test.labels, [classes.index(name) for name in dataset.classes], len(classes))
    return test
