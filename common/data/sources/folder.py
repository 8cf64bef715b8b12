"""A folder of images: <data-dir>/train/<class>/… and <data-dir>/test/<class>/…, or <data-dir>/<class>/… alone.

Without `train` and `test` a fifth of each class is the test set, by the rule of `splits.py`, as at a site.
"""

from pathlib import Path
from typing import Any

import numpy as np

from common.config import Experiment
from common.data.sources.animations import animation_notes
from common.data.sources.dataset import Dataset
from common.data.sources.discovery import FoundClasses, check_text, find_classes, has_sides, skipped_notes, unused_notes
from common.data.sources.file_sets import Side, file_dataset
from common.data.sources.splits import SPLITS, draw_splits
from common.errors import UserError

DATASETS = {"image-folder": {"load": "load"}}


def load(experiment: Experiment) -> Dataset:
    """Return the folder's images; the classes are the sorted union of both parts' sub-folders.

    Raises:
        UserError: a part without images, a folder that may be a part (`has_sides`), a name that is no text, files that
            cannot be read.
    """
    root = experiment.data.root
    drawn: tuple[str, ...] = ()
    if has_sides(root):
        parts = {part: find_classes(root / part, root) for part in SPLITS}
    else:
        parts, drawn = _drawn(root)
    classes = sorted({name for part in parts.values() for name in part.classes})
    train, test = (_images(parts[part], classes, root if drawn else root / part) for part in SPLITS)
    check_text((path.relative_to(root).as_posix() for side in (train, test) for path in side.paths), root)
    notes = (*drawn, *skipped_notes(skipped for part in parts.values() for skipped in part.skipped))
    notes += () if drawn else unused_notes(root, SPLITS)
    notes += animation_notes([*train.paths, *test.paths], root)
    train_names, test_names = (
        tuple(path.relative_to(root).as_posix() for path in side.paths) for side in (train, test)
    )
    names: dict[str, Any] = {"train_names": train_names, "test_names": test_names}
    return file_dataset("image-folder", tuple(classes), train, test, experiment, notes=notes, **names)


def _drawn(root: Path) -> tuple[dict[str, FoundClasses], tuple[str, ...]]:
    """Deal the images of class folders without a split to both sides; return a note that says so, too."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; set data-dir to a folder with a sub-folder for each class")
    found = find_classes(root)
    images = [(name, path) for name, paths in found.classes.items() for path in paths]
    if not images:
        expected = f"{root}: no images; expected <class>/…, or train/<class>/… and test/<class>/…"
        raise UserError("; ".join((expected, *skipped_notes(found.skipped))))
    splits = draw_splits([path.relative_to(root).as_posix() for _, path in images], [(name,) for name, _ in images])
    if len(set(splits)) < 2:
        raise UserError(f"{root}: no class has an image to spare for testing; give every class two images or more")
    parts = {}
    for side in SPLITS:
        taken = {path for (_, path), split in zip(images, splits, strict=True) if split == side}
        classes = {name: tuple(p for p in paths if p in taken) for name, paths in found.classes.items()}
        parts[side] = FoundClasses(classes, found.skipped if side == "train" else ())
    return parts, ("no folders train and test: a fifth of each class are the test images",)


def _images(found: FoundClasses, classes: list[str], folder: Path) -> Side:
    paths: list[Path] = []
    labels: list[int] = []
    for name, images in found.classes.items():
        paths += images
        labels += [classes.index(name)] * len(images)
    if not paths:
        raise UserError("; ".join((f"{folder}: no images below its class folders", *skipped_notes(found.skipped))))
    return Side(paths, np.array(labels, np.int64))
