"""A CSV that lists images with their labels, and optionally patients and sites, as hospitals can write one.

data-dir is the CSV, or a folder with `manifest.csv`. Its columns:

    image     path of the file, from the CSV's folder and below it: PNG, JPEG, TIFF, …, DICOM (`fednc[medical]`)
    split     optional: train or test; without it a fifth of the patients (or images) is the test set
    patient   optional: an id, the same for one person at all sites; no patient may be on both sides of the split
    site      optional: a name, for `partition: natural`
    label     one class; or
    labels    any number of labels with | or ; between them; or
    …         without these two, every other column is a label, 0 or 1 in each row

Beside it, `classes.txt` may list the classes, one a line, in their order; otherwise they are sorted by name. Columns
of other names are ignored where there is a `label` or `labels`, or a `classes.txt`.
"""

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.config import Experiment
from common.data.dataset import Dataset
from common.data.file_sets import Row, Side, file_dataset, read_lines, refuse
from common.data.images import Labels
from common.data.manifest_rows import ABOUT, ManifestTable, read_rows, report_leaks
from common.errors import UserError, nearest
from common.seeds import numpy_generator

_TEST_SHARE = 0.2


def load(experiment: Experiment) -> Dataset:
    """Return the listed images; the first one decides whether they are grey or RGB.

    A split that the manifest does not name is the same for every seed, so that runs of different seeds can be compared.

    Raises:
        UserError: naming the manifest's line of what is missing, malformed, unreadable, listed twice or leaking.
    """
    listed = _find(experiment.data_root)
    listed_classes = _listed_classes(listed.parent / "classes.txt")
    table = read_rows(listed, partial(_label_columns, listed, listed_classes))
    classes, labels = _labels(listed, table, listed_classes)
    paths = [row.path for row in table.rows]
    patients = [row.patient for row in table.rows] if "patient" in table.header else None
    sites = _sites(listed, table)
    is_test = _split(listed, table, patients or [str(path) for path in paths])
    if patients:
        splits = np.where(is_test, "test", "train").tolist()
        report_leaks(zip((row.number for row in table.rows), patients, splits, strict=True), refuse(listed))
    parts = [np.flatnonzero(~is_test), np.flatnonzero(is_test)]
    places = [f"{listed}:{row.number}" for row in table.rows]
    train, test = (Side([paths[i] for i in part], labels[part], [places[i] for i in part]) for part in parts)
    train_groups, test_groups = _numbered(patients, parts)
    train_sites, test_sites = _numbered(sites, parts)
    return file_dataset(
        *("manifest", classes, train, test, experiment),
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


def _sites(listed: Path, table: ManifestTable) -> list[str] | None:
    if "site" not in table.header:
        return None
    for row in table.rows:
        if not row.site:
            raise UserError(f"{listed}:{row.number}: site is empty; give every image one, or remove the column")
    return [row.site for row in table.rows]


def _labels(listed: Path, table: ManifestTable, names: tuple[str, ...]) -> tuple[tuple[str, ...], Labels]:
    names = names or table.columns or tuple(sorted({word for row in table.rows for word in row.words}))
    columns = {name: c for c, name in enumerate(names)}
    flags = np.zeros((len(table.rows), len(names)), np.bool_)
    for i, row in enumerate(table.rows):
        for word in row.words:
            if word not in columns:
                hint = f"did you mean '{near}'? " if (near := nearest(word, names)) else ""
                raise UserError(f"{listed}:{row.number}: label '{word}' is not in classes.txt; {hint}add it there")
            flags[i, columns[word]] = True
    if not names:
        raise UserError(f"{listed}: no image has a label")
    return names, flags if table.multilabel else flags.argmax(axis=1).astype(np.int64)


def _label_columns(listed: Path, names: tuple[str, ...], header: list[str], rows: list[Row]) -> tuple[str, ...]:
    if missing := [name for name in names if name not in header]:
        raise UserError(f"{listed}: no column '{missing[0]}', which classes.txt lists")
    return names or tuple(sorted(set(header) - set(ABOUT)))


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


def _split(listed: Path, table: ManifestTable, units: list[str]) -> npt.NDArray[np.bool_]:
    """Return bool [N], whether an image is a test image: as named, or all images of units drawn at random."""
    if "split" in table.header:
        is_test = np.array([row.split == "test" for row in table.rows])
        if is_test.all() or not is_test.any():
            raise UserError(f"{listed}: split is '{table.rows[0].split}' in every line; name test images and others")
        return is_test
    values, unit_of = np.unique(np.array(units), return_inverse=True)
    if len(values) < 2:
        raise UserError(f"{listed}: one image or patient alone cannot be split into training and test images")
    drawn = numpy_generator(0, "manifest-test").permutation(len(values))[: max(1, round(_TEST_SHARE * len(values)))]
    return np.isin(unit_of, drawn)


def _numbered(
    names: list[str] | None, parts: list[npt.NDArray[np.int64]]
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    """Return the place of each image's name among the sorted names, for both parts."""
    if names is None:
        return None, None
    numbers = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
    return numbers[parts[0]], numbers[parts[1]]
