"""Published list files over a folder of photographs: ImageNet-LT and iNaturalist with its users.

Both lists lie in data-dir or one folder below it. Photographs differ in size, so these need `image-size`.
"""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.config import Experiment
from common.data.sources.dataset import Dataset, padded_names
from common.data.sources.file_sets import Row, Side, file_dataset, find_list, inside, read_lines, read_table
from common.errors import UserError

DATASETS = {
    "imagenet-lt": {"load": "load_imagenet_lt"},
    "inaturalist": {"load": "load_inaturalist", "names_sites": True},
}

Integers = npt.NDArray[np.int64]

_LABEL_DIGITS = 6  # classes are numbered up to the largest label: a stray one must not make billions of them


def load_imagenet_lt(experiment: Experiment) -> Dataset:
    """Read ImageNet-LT (Liu et al., CVPR 2019): `ImageNet_LT_{train,test}.txt`, lines 'relative/path label'.

    Raises:
        UserError: a missing list, a malformed line (file and line), an unreadable image (most when decoded).
    """
    root = experiment.data.root
    train_paths, train_labels = _path_list(find_list(root, "ImageNet_LT_train.txt", "imagenet-lt"), root)
    test_paths, test_labels = _path_list(find_list(root, "ImageNet_LT_test.txt", "imagenet-lt"), root)
    classes = _folder_names(train_paths, train_labels, max(*train_labels, *test_labels) + 1)
    train = Side(train_paths, np.array(train_labels, np.int64))
    test = Side(test_paths, np.array(test_labels, np.int64))
    return file_dataset("imagenet-lt", classes, train, test, experiment, channels=3)


def load_inaturalist(experiment: Experiment) -> Dataset:
    """Read iNaturalist split by user (Hsu et al., ECCV 2020, https://arxiv.org/abs/2003.08082).

    `federated_train*.csv` has columns user_id, image_id, class; `test.csv` has no user. Further columns are
    ignored. `image_id` is the name, without ending, of a file of iNaturalist 2017, in any folder below
    data-dir. The users are the natural sites; the test images belong to nobody.

    Raises:
        UserError: a missing list or column, a malformed line, images that are not below data-dir.
    """
    root = experiment.data.root
    train_list = find_list(root, "federated_train*.csv", "inaturalist")
    test_list = find_list(train_list.parent, "test.csv", "inaturalist")  # other splits' lists have this name too
    train_rows = _csv_rows(train_list, ("user_id", "image_id", "class"))
    test_rows = _csv_rows(test_list, ("image_id", "class"))
    files = _index_images(root, {row["image_id"] for row in (*train_rows, *test_rows)})
    train_labels, test_labels = ([int(row["class"]) for row in rows] for rows in (train_rows, test_rows))
    train = Side([files[row["image_id"]] for row in train_rows], np.array(train_labels, np.int64))
    test = Side([files[row["image_id"]] for row in test_rows], np.array(test_labels, np.int64))
    sites, names = _users([row["user_id"] for row in train_rows])
    classes = tuple(str(c) for c in range(max(*train_labels, *test_labels) + 1))
    more = {"train_sites": sites, "site_names": names}
    return file_dataset("inaturalist", classes, train, test, experiment, channels=3, **more)


def _is_label(word: str) -> bool:
    return word.isdecimal() and len(word) <= _LABEL_DIGITS


def _path_list(listed: Path, root: Path) -> tuple[list[Path], list[int]]:
    paths, labels = [], []
    for number, line in read_lines(listed):
        fields = line.rsplit(maxsplit=1)  # from the right: a path may hold blanks
        if len(fields) != 2 or not _is_label(fields[1]):
            raise UserError(
                f"{listed}:{number}: expected 'relative/path label', a label being a number of at most "
                f"{_LABEL_DIGITS} digits, found '{line}'"
            )
        if (path := inside(root, fields[0].strip())) is None:
            raise UserError(f"{listed}:{number}: '{fields[0]}' leads out of {root}; give a path below it")
        paths.append(path)
        labels.append(int(fields[1]))
    return paths, labels


def _csv_rows(listed: Path, columns: tuple[str, ...]) -> list[Row]:
    _, rows = read_table(listed, columns)
    for number, row in rows:
        if not all(row[column] for column in columns) or not _is_label(row["class"]):
            raise UserError(
                f"{listed}:{number}: expected {', '.join(columns)}, class being a number of at most "
                f"{_LABEL_DIGITS} digits"
            )
    return [row for _, row in rows]


def _index_images(root: Path, wanted: set[str]) -> dict[str, Path]:
    """Map each image id to its file; one walk, because the ids do not name the species folder they lie in."""
    files: dict[str, Path] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            stem, ending = os.path.splitext(name)  # noqa: PTH122 — a Path each would be slow for 600,000 files
            if stem in wanted and ending.lower() in (".jpg", ".jpeg", ".png"):
                files[stem] = Path(folder) / name
    if missing := sorted(wanted - files.keys()):
        raise UserError(
            f"inaturalist: {len(missing)} of {len(wanted)} images are not below {root}, such as "
            f"{missing[0]}.jpg; unpack iNaturalist 2017's train_val_images there"
        )
    return files


def _users(user_ids: list[str]) -> tuple[Integers, tuple[str, ...]]:
    values, sites = np.unique(np.array(user_ids), return_inverse=True)
    if all(value.isdecimal() for value in values.tolist()):
        numbers, sites = np.unique(np.array(user_ids, np.int64), return_inverse=True)
        return sites.astype(np.int64), padded_names("user", numbers)
    return sites.astype(np.int64), padded_names("user", np.arange(len(values)))


def _folder_names(paths: list[Path], labels: list[int], classes: int) -> tuple[str, ...]:
    """Name each class after its training images' folder (ImageNet's synset), else by its number."""
    names = {label: path.parent.name for path, label in zip(paths, labels, strict=True)}
    if len(set(names.values())) < len(names):
        names = {}
    return tuple(names.get(c, str(c)) for c in range(classes))
