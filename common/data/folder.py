"""A folder of images: <data-dir>/train/<class>/… and <data-dir>/test/<class>/…"""

from pathlib import Path

import numpy as np

from common.config import Experiment
from common.data.dataset import Dataset
from common.data.file_sets import Side, file_dataset
from common.errors import UserError

SUFFIXES = frozenset({".bmp", ".dcm", ".dicom", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def load(experiment: Experiment) -> Dataset:
    """Return the folder's images; the classes are the sorted union of both parts' sub-folders.

    Raises:
        UserError: a missing part, a part without images, an unreadable first file; others when decoded.
    """
    root = experiment.data_root
    folders = {part: _part(root, part) for part in ("train", "test")}
    classes = sorted({folder.name for part in folders.values() for folder in part})
    train, test = (_images(folders[part], classes, root / part) for part in ("train", "test"))
    return file_dataset("image-folder", tuple(classes), train, test, experiment)


def _part(root: Path, part: str) -> list[Path]:
    folder = root / part
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; image-folder needs <data-dir>/train/<class>/ and …/test/<class>/")
    return class_folders(folder)


def class_folders(folder: Path) -> list[Path]:
    """Return the visible folders of a folder, each of which is a class."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    """Return the files at any depth below a folder that end as images do, in order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _images(folders: list[Path], classes: list[str], root: Path) -> Side:
    paths: list[Path] = []
    labels: list[int] = []
    for folder in folders:
        found = image_files(folder)
        paths += found
        labels += [classes.index(folder.name)] * len(found)
    if not paths:
        raise UserError(f"{root}: no images below its class folders; known endings: {', '.join(sorted(SUFFIXES))}")
    return Side(paths, np.array(labels, np.int64))
