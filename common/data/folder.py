"""A folder of images: <data-dir>/train/<class>/… and <data-dir>/test/<class>/…"""

from pathlib import Path

import numpy as np

from common.config import Experiment
from common.data.animations import animation_notes
from common.data.dataset import Dataset
from common.data.discovery import FoundClasses, find_classes, skipped_notes, unused_notes
from common.data.file_sets import Side, file_dataset
from common.errors import UserError


def load(experiment: Experiment) -> Dataset:
    """Return the folder's images; the classes are the sorted union of both parts' sub-folders.

    Raises:
        UserError: a missing part, a part without images, an unreadable first file; others when decoded.
    """
    root = experiment.data_root
    parts = {part: _part(root, part) for part in ("train", "test")}
    classes = sorted({name for part in parts.values() for name in part.classes})
    train, test = (_images(parts[part], classes, root / part) for part in ("train", "test"))
    notes = skipped_notes(skipped for part in parts.values() for skipped in part.skipped)
    notes += unused_notes(root, ("train", "test"))
    notes += animation_notes([*train.paths, *test.paths], root)
    return file_dataset("image-folder", tuple(classes), train, test, experiment, notes=notes)


def _part(root: Path, part: str) -> FoundClasses:
    folder = root / part
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; image-folder needs <data-dir>/train/<class>/ and …/test/<class>/")
    return find_classes(folder, root)


def _images(found: FoundClasses, classes: list[str], folder: Path) -> Side:
    paths: list[Path] = []
    labels: list[int] = []
    for name, images in found.classes.items():
        paths += images
        labels += [classes.index(name)] * len(images)
    if not paths:
        raise UserError("; ".join((f"{folder}: no images below its class folders", *skipped_notes(found.skipped))))
    return Side(paths, np.array(labels, np.int64))
