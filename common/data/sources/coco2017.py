"""COCO 2017 (Lin et al., ECCV 2014, https://arxiv.org/abs/1405.0312): photographs, 80 labels.

In data-dir: `annotations/instances_train2017.json`, `annotations/instances_val2017.json`, `train2017/`, `val2017/`.
"""

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from common.config import Experiment
from common.data.sources.dataset import Dataset
from common.data.sources.file_sets import Side, file_dataset, inside
from common.errors import UserError

DATASETS = {"coco2017": {"load": "load"}}

T = TypeVar("T", int, str)


def load(experiment: Experiment) -> Dataset:
    """Return the photographs with the categories of their objects, crowds too; `val2017` is the test set.

    The classes are in the order of their category ids. Images without an object are kept, without a label. The
    photographs differ in size, so `image-size` is needed.

    Raises:
        UserError: a missing or malformed annotation file (file, place and key), an unreadable image (most when
            decoded).
    """
    root = experiment.data.root
    (train_classes, train), (test_classes, test) = (_side(root, part) for part in ("train2017", "val2017"))
    if train_classes != test_classes:
        raise UserError(f"{root / 'annotations'}: the two files name different categories; take both from one release")
    return file_dataset("coco2017", train_classes, train, test, experiment, channels=3)


def _side(root: Path, part: str) -> tuple[tuple[str, ...], Side]:
    file = _Annotations(root / "annotations" / f"instances_{part}.json")
    names = file.by_id("categories", "name")
    files = file.by_id("images", "file_name")
    paths = []
    for name in files.values():
        if (path := inside(root / part, name)) is None:
            raise file.error("images", f"has the file_name {name!r}, which leads out of {part}")
        paths.append(path)
    rows = {image: row for row, image in enumerate(files)}
    columns = {category: c for c, category in enumerate(sorted(names))}
    labels = np.zeros((len(paths), len(names)), np.bool_)
    images, categories = (file.column("annotations", key, int) for key in ("image_id", "category_id"))
    for number, (image, category) in enumerate(zip(images, categories, strict=True)):
        if image not in rows or category not in columns:
            key, value = ("image_id", image) if image not in rows else ("category_id", category)
            raise file.error(f"annotations[{number}].{key}", f"is {value}, which this file does not list")
        labels[rows[image], columns[category]] = True
    return tuple(names[category] for category in sorted(names)), Side(paths, labels)


class _Annotations:
    """An annotation file, checked as it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._content = json.load(file, object_hook=_without_outline)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); unpack COCO's annotations there") from None
        except (ValueError, RecursionError) as error:  # ValueError: no JSON, or no text
            raise UserError(f"{path}: not a JSON file: {' '.join(str(error).split())}") from None

    def by_id(self, section: str, key: str) -> dict[int, str]:
        """Map the ids of a section to a text of theirs."""
        found: dict[int, str] = {}
        pairs = zip(self.column(section, "id", int), self.column(section, key, str), strict=True)
        for number, (name, value) in enumerate(pairs):
            if name in found:
                raise self.error(f"{section}[{number}].id", f"is {name}, as another one is")
            found[name] = value
        if not found:
            raise self.error(section, "is empty")
        return found

    def column(self, section: str, key: str, kind: type[T]) -> list[T]:
        """Return one value of each entry of a section."""
        entries = self._content.get(section) if isinstance(self._content, dict) else None
        if not isinstance(entries, list):
            raise self.error(section, "is missing, or no list")
        values: list[T] = []
        for number, entry in enumerate(entries):
            value: Any = entry.get(key) if isinstance(entry, dict) else None
            if type(value) is not kind:
                expected = "a whole number" if kind is int else "a text"
                raise self.error(f"{section}[{number}].{key}", f"is {value!r}, expected {expected}")
            values.append(value)
        return values

    def error(self, place: str, message: str) -> UserError:
        """Build the error about a place in the file."""
        return UserError(f"{self.path}: {place} {message}")


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """Drop an object's outline at once: outlines are nearly all of the file."""
    entry.pop("segmentation", None)
    return entry
