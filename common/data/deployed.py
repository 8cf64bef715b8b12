"""What the coordinator of real sites sees: its own test images, if it has any, and nobody's training images."""

from dataclasses import replace

import numpy as np

from common.config import Experiment
from common.data.dataset import Dataset
from common.data.images import ArrayImages, ImageSource, Labels
from common.data.loading import load_dataset
from common.data.validation import SubsetImages
from common.errors import UserError, nearest
from common.methods import METHODS


def coordinator_dataset(experiment: Experiment) -> Dataset:
    """Return the coordinator's test images with the classes that all sites agree on, and no training images.

    Where `data-dir` names none, there are no test images either, and no generic figures.

    Raises:
        UserError: the test images have a class that the experiment does not know, or another number of channels.
    """
    classes, channels = experiment.classes or (), len(experiment.pixel_mean)
    if experiment.data_dir is None:
        size = experiment.image_size or 32
        pixels = np.zeros((0, channels, size, size), np.uint8)
        several = METHODS[experiment.method].labels == "many"
        labels: Labels = np.zeros((0, len(classes)), np.bool_) if several else np.zeros(0, np.int64)
        nothing = ArrayImages(pixels, labels)
        return Dataset("deployed", classes, nothing, nothing, experiment.pixel_mean, experiment.pixel_std)
    dataset = with_classes(load_dataset(experiment), classes)
    if dataset.test.channels != channels:
        raise UserError(
            f"pixel-mean has {channels} value(s), but the coordinator's test images {dataset.test.channels} channel(s)"
        )
    none = SubsetImages(dataset.test, np.empty(0, np.int64))
    return Dataset(dataset.name, classes, none, dataset.test, experiment.pixel_mean, experiment.pixel_std)


def with_classes(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """Return the data set with its labels in the order of these classes.

    Raises:
        UserError: it has a class that is not among them.
    """
    for name in dataset.classes:
        if name not in classes:
            near = nearest(name, classes)
            hint = f"did you mean '{near}'?" if near else f"known: {', '.join(classes)}"
            raise UserError(f"{dataset.name}: class '{name}' is not one of the experiment's classes: {hint}")
    index = np.array([classes.index(name) for name in dataset.classes], np.int64)

    def relabelled(images: ImageSource) -> ImageSource:
        if images.labels.dtype == np.bool_:
            labels: Labels = np.zeros((len(images), len(classes)), np.bool_)
            labels[:, index] = images.labels
        else:
            labels = index[images.labels]
        same = SubsetImages(images, np.arange(len(images), dtype=np.int64))
        same.labels = labels
        return same

    return replace(dataset, classes=classes, train=relabelled(dataset.train), test=relabelled(dataset.test))
