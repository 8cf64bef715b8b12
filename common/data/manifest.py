"""A CSV that lists images with their labels, and optionally patients and sites, as hospitals can write one.

data-dir is the CSV, or a folder with `manifest.csv`. Its columns:

    image     path of the file, from the CSV's folder and below it
    split     optional: train or test; without it a fifth of the patients (or images) is the test set
    patient   optional: an id, the same for one person at all sites; no patient may be on both sides of the split
    site      optional: a name, for `partition: natural`
    label     one class; or
    labels    any number of labels with | or ; between them; or
    …         without these two, every other column is a label, 0 or 1 in each row

Beside it, `classes.txt` may list the classes, one a line, in their order; otherwise they are sorted by name. Columns
of other names are ignored where there is a `label` or `labels`, or a `classes.txt`.
"""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.config import Experiment
from common.data.dataset import Dataset
from common.data.file_sets import Row, Side, file_dataset, inside, read_lines, read_table
from common.data.images import Labels
from common.errors import UserError, nearest
from common.seeds import numpy_generator

Rows = list[tuple[int, Row]]

_ABOUT = ("image", "split", "patient", "site", "label", "labels")
_SPLITS = ("train", "test")
_TEST_SHARE = 0.2


def load(experiment: Experiment) -> Dataset:
    """Return the listed images; the first one decides whether they are grey or RGB.

    A split that the manifest does not name is the same for every seed, so that runs of different seeds can be compared.

    Raises:
        UserError: naming the manifest's line of what is missing, malformed, unreadable, listed twice or leaking.
    """
    listed = _find(experiment.data_root)
    header, rows = read_table(listed, ("image",), strict=True)
    classes, labels = _labels(listed, header, rows)
    paths = _paths(listed, rows)
    patients, sites = (_column(listed, rows, key) if key in header else None for key in ("patient", "site"))
    is_test = _split(listed, rows, patients or [str(path) for path in paths], "split" in header)
    if patients:
        _check_patients(listed, rows, patients, is_test)
    parts = [np.flatnonzero(~is_test), np.flatnonzero(is_test)]
    places = [f"{listed}:{number}" for number, _ in rows]
    train, test = (Side([paths[i] for i in part], labels[part], [places[i] for i in part]) for part in parts)
    train_groups, test_groups = _numbered(patients, parts)
    train_sites, test_sites = _numbered(sites, parts)
    return file_dataset(
        *("manifest", classes, train, test, experiment.image_size),
        train_sites=train_sites,
        test_sites=test_sites,
        site_names=tuple(sorted(set(sites or ()))),
        train_groups=train_groups,
        test_groups=test_groups,
    )


def _find(root: Path) -> Path:
    listed = root / "manifest.csv" if root.is_dir() else root
    if not listed.is_file():
        raise UserError(f"{listed}: no such file; set data-dir to a CSV, or to a folder with manifest.csv")
    return listed


def _paths(listed: Path, rows: Rows) -> list[Path]:
    lines: dict[Path, int] = {}
    for number, row in rows:
        path = inside(listed.parent, row["image"])
        if path is None:
            raise UserError(f"{listed}:{number}: image '{row['image']}': give a path below the manifest's folder")
        if not path.is_file():
            raise UserError(f"{listed}:{number}: image '{row['image']}': there is no file {path}")
        if path in lines:
            raise UserError(f"{listed}:{number}: image '{row['image']}' is in line {lines[path]}, too; keep one")
        lines[path] = number
    return list(lines)


def _column(listed: Path, rows: Rows, key: str) -> list[str]:
    for number, row in rows:
        if not row[key]:
            raise UserError(f"{listed}:{number}: {key} is empty; give every image one, or remove the column")
    return [row[key] for _, row in rows]


def _labels(listed: Path, header: list[str], rows: Rows) -> tuple[tuple[str, ...], Labels]:
    names = _listed_classes(listed.parent / "classes.txt")
    if "label" in header and "labels" in header:
        raise UserError(f"{listed}: has columns 'label' and 'labels'; keep one of them")
    if "label" in header:
        words = [[word] for word in _column(listed, rows, "label")]
    elif "labels" in header:
        words = [[word.strip() for word in re.split("[|;]", row["labels"]) if word.strip()] for _, row in rows]
    else:
        return _label_columns(listed, header, rows, names)
    names = names or tuple(sorted({word for row in words for word in row}))
    columns = {name: c for c, name in enumerate(names)}
    flags = np.zeros((len(rows), len(names)), np.bool_)
    for i, (number, _) in enumerate(rows):
        for word in words[i]:
            if word not in columns:
                hint = f"did you mean '{near}'? " if (near := nearest(word, names)) else ""
                raise UserError(f"{listed}:{number}: label '{word}' is not in classes.txt; {hint}add it there")
            flags[i, columns[word]] = True
    if not names:
        raise UserError(f"{listed}: no image has a label")
    return names, flags.argmax(axis=1).astype(np.int64) if "label" in header else flags


def _label_columns(
    listed: Path, header: list[str], rows: Rows, names: tuple[str, ...]
) -> tuple[tuple[str, ...], npt.NDArray[np.bool_]]:
    names = names or tuple(sorted(set(header) - set(_ABOUT)))
    if not names:
        raise UserError(f"{listed}: no labels; add a column 'label', 'labels', or one of 0 and 1 for each class")
    if missing := [name for name in names if name not in header]:
        raise UserError(f"{listed}: no column '{missing[0]}', which classes.txt lists")
    for number, row in rows:
        for name in names:
            if row[name] not in ("0", "1"):
                raise UserError(
                    f"{listed}:{number}: '{name}' is '{row[name]}', expected 0 or 1; a column that is no label: remove "
                    "it, or list the classes in classes.txt"
                )
    return names, np.array([[row[name] == "1" for name in names] for _, row in rows])


def _listed_classes(path: Path) -> tuple[str, ...]:
    """Return the names of classes.txt, or () where there is none."""
    if not path.exists():
        return ()
    lines: dict[str, int] = {}
    for number, name in read_lines(path):
        if name in lines:
            raise UserError(f"{path}:{number}: '{name}' is in line {lines[name]}, too; keep one")
        lines[name] = number
    return tuple(lines)


def _split(listed: Path, rows: Rows, units: list[str], named: bool) -> npt.NDArray[np.bool_]:
    """Return bool [N], whether an image is a test image: as named, or all images of units drawn at random."""
    if named:
        for number, row in rows:
            if row["split"] not in _SPLITS:
                raise UserError(f"{listed}:{number}: split is '{row['split']}', expected {' or '.join(_SPLITS)}")
        is_test = np.array([row["split"] == "test" for _, row in rows])
        if is_test.all() or not is_test.any():
            raise UserError(f"{listed}: split is '{rows[0][1]['split']}' in every line; name test images and others")
        return is_test
    values, unit_of = np.unique(np.array(units), return_inverse=True)
    if len(values) < 2:
        raise UserError(f"{listed}: one image or patient alone cannot be split into training and test images")
    drawn = numpy_generator(0, "manifest-test").permutation(len(values))[: max(1, round(_TEST_SHARE * len(values)))]
    return np.isin(unit_of, drawn)


def _check_patients(listed: Path, rows: Rows, patients: list[str], is_test: npt.NDArray[np.bool_]) -> None:
    first: dict[str, tuple[int, bool]] = {}
    for (number, _), patient, side in zip(rows, patients, is_test.tolist(), strict=True):
        line, other = first.setdefault(patient, (number, side))
        if side != other:
            raise UserError(
                f"{listed}:{number}: patient '{patient}' is in {_SPLITS[side]} here and in {_SPLITS[other]} in line "
                f"{line}: a leak; split by patient"
            )


def _numbered(
    names: list[str] | None, parts: list[npt.NDArray[np.int64]]
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    """Return the place of each image's name among the sorted names, for both parts."""
    if names is None:
        return None, None
    numbers = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
    return numbers[parts[0]], numbers[parts[1]]
