"""What every data set must keep to, whichever loader read it: names that differ visibly, classes with images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from common.data.images.source import Labels
from common.data.sources.dataset import Dataset, label_counts
from common.errors import UserError
from common.names import check_names, class_name, site_name

_SHOWN = 10


def checked(dataset: Dataset) -> Dataset:
    """Return a data set with names as they are used everywhere.

    Raises:
        UserError: a name of a class or site breaks the rule of `common/names.py`, or looks like another.
    """
    try:
        classes = check_names(dataset.classes, class_name, "class")
        sites = check_names(dataset.site_names, site_name, "site")
    except ValueError as error:
        raise UserError(f"{dataset.name}: {error}") from None
    return replace(dataset, classes=classes, site_names=sites)


def class_notes(dataset: Dataset) -> tuple[str, ...]:
    """Return a line about the classes that no image has, and one about those that only test images have."""
    train, test = (label_counts(part.labels, len(dataset.classes)) for part in (dataset.train, dataset.test))
    nowhere, only_test = (
        [dataset.classes[c] for c in np.flatnonzero(absent).tolist()]
        for absent in ((train + test) == 0, (train == 0) & (test > 0))
    )
    notes = []
    if nowhere:
        notes.append(f"no image at all of {named(nowhere)}: an empty folder, or a name without images")
    if only_test:
        notes.append(f"test images and no training image of {named(only_test)}: it cannot be learned")
    return tuple(notes)


def check_classes(dataset: Dataset) -> None:
    """Refuse a data set of one class alone: there is nothing to learn."""
    if len(dataset.classes) < 2:
        raise UserError(
            f"{dataset.name}: there is one class alone, '{dataset.classes[0]}'; give it a second one, such as images "
            "without it in one of their own"
        )


def unmeasured(labels: Labels, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes that test labels cannot measure: without an image, or of several labels without a positive
    or without a negative.
    """
    counts = label_counts(labels, len(classes))
    absent = counts == 0
    if labels.dtype == np.bool_:
        absent |= counts == len(labels)
    return tuple(classes[c] for c in np.flatnonzero(absent).tolist())


def named(classes: Sequence[str]) -> str:
    """Return "class 'a'" or "2 classes: 'a', 'b'"; many are cut short."""
    if len(classes) == 1:
        return f"class '{classes[0]}'"
    shown = ", ".join(f"'{name}'" for name in classes[:_SHOWN])
    return f"{len(classes)} classes: {shown}{', …' if len(classes) > _SHOWN else ''}"
