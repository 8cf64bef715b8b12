"""A CSV that lists images with their labels, and optionally patients and sites, as hospitals can write one.

data-dir is the CSV, or a folder with `manifest.csv`. Commas, semicolons or tabs separate its fields. Its columns:

    image     path of the file, from the CSV's folder and below it: PNG, JPEG, TIFF, …, DICOM (`fednc[medical]`);
              also called filename, file or path
    split     optional: train or test; without it a fifth of each class is the test set, see `splits.py`
    patient   optional: an id, the same for one person at all sites; no patient may be on both sides of the split
    site      optional: a name, for `partition: natural`
    label     one class; or
    labels    any number of labels with | or ; between them; or
    …         without these two, every other column is a label, 0 or 1 in each row

These names may be written in any case. Beside it, `classes.txt` may list the classes, one a line, in their order;
otherwise they are sorted by name. Columns of other names are ignored where there is a `label` or `labels`, or a
`classes.txt`.
"""

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.config import Experiment
from common.data.images.source import Labels
from common.data.sources.animations import animation_notes
from common.data.sources.dataset import Dataset
from common.data.sources.file_sets import Mistakes, Report, Row, Side, file_dataset, read_lines
from common.data.sources.manifest_header import ABOUT
from common.data.sources.manifest_labels import report_labels, report_patients
from common.data.sources.manifest_rows import ManifestTable, read_rows, report_leaks
from common.data.sources.splits import SPLITS, draw_splits
from common.errors import UserError
from common.names import check_names, class_name

DATASETS = {"manifest": {"load": "load", "names_sites": True}}


def load(experiment: Experiment) -> Dataset:
    """Return the listed images; the first one decides whether they are grey or RGB.

    A split that the manifest does not name is the same for every seed, so that runs of different seeds can be compared.

    Raises:
        UserError: naming the manifest's line of what is missing, malformed, unreadable, listed twice or leaking.
    """
    listed = find_manifest(experiment.data.root)
    table, names, notes = read_manifest(listed)
    classes, labels = _labels(listed, table, names)
    rows, parts = table.rows, [np.flatnonzero(np.array(_splits(listed, table)) == split) for split in SPLITS]
    patients = [row.patient for row in rows] if "patient" in table.header else None
    sites = [row.site for row in rows] if "site" in table.header else None
    train, test = (
        Side([rows[i].path for i in part], labels[part], [f"{listed}:{rows[i].number}" for i in part]) for part in parts
    )
    train_groups, test_groups = _numbered(patients, parts)
    train_sites, test_sites = _numbered(sites, parts)
    train_names, test_names = (
        tuple(rows[i].path.relative_to(listed.parent).as_posix() for i in part) for part in parts
    )
    return file_dataset(
        *("manifest", classes, train, test, experiment),
        train_sites=train_sites,
        test_sites=test_sites,
        site_names=tuple(sorted(set(sites or ()))),
        train_groups=train_groups,
        test_groups=test_groups,
        train_names=train_names,
        test_names=test_names,
        notes=(*notes, *animation_notes([row.path for row in rows], listed.parent)),
    )


def find_manifest(root: Path) -> Path:
    """Return the CSV of a data folder, or the one that is named; raise `UserError` if there is none."""
    listed = root / "manifest.csv" if root.is_dir() else root
    if not listed.is_file():
        raise UserError(f"{listed}: no such file; set data-dir to a CSV, or to a folder with manifest.csv")
    return listed


def read_manifest(listed: Path) -> tuple[ManifestTable, tuple[str, ...], tuple[str, ...]]:
    """Return a manifest's rows, the classes of its `classes.txt` (() where there is none), and notes about it.

    Raises:
        UserError: naming all lines with a mistake.
    """
    names = _listed_classes(listed.parent / "classes.txt")
    with Mistakes(listed) as report:
        table = read_rows(listed, partial(_label_columns, listed, names, report), report)
        report_labels(table, names or None, report)
        notes = report_patients(table, report)
        for row in table.rows:
            if "site" in table.header and not row.site:
                report(row.number, "site is empty; give every image one, or remove the column")
        if "patient" in table.header and "split" in table.header:
            report_leaks(((row.number, row.patient, row.split) for row in table.rows), report)
    return table, names, (*table.notes, *(f"{listed.name}: {note}" for note in notes))


def _labels(listed: Path, table: ManifestTable, names: tuple[str, ...]) -> tuple[tuple[str, ...], Labels]:
    names = names or table.columns or tuple(sorted({word for row in table.rows for word in row.words}))
    columns = {name: c for c, name in enumerate(names)}
    flags = np.zeros((len(table.rows), len(names)), np.bool_)
    for i, row in enumerate(table.rows):
        flags[i, [columns[word] for word in row.words]] = True
    if not names:
        raise UserError(f"{listed}: no image has a label")
    return names, flags if table.multilabel else flags.argmax(axis=1).astype(np.int64)


def _label_columns(
    listed: Path, names: tuple[str, ...], report: Report, header: list[str], rows: list[Row]
) -> tuple[str, ...]:
    if missing := [name for name in names if name not in header]:
        raise UserError(f"{listed}: no column '{missing[0]}', which classes.txt lists")
    if names:
        return names
    found = sorted(set(header) - set(ABOUT))
    flags = tuple(name for name in found if any(row[name] in ("0", "1") for row in rows))
    for name in found:
        if name not in flags:  # once, not for each row
            report(
                1,
                f"column '{name}' has neither 0 nor 1 in any row, so it is no label: remove it; call it 'label' if it "
                "names each image's class; or list the classes in classes.txt",
            )
    return flags


def _listed_classes(path: Path) -> tuple[str, ...]:
    """Return the names of classes.txt, or () where there is none."""
    if not path.exists():
        return ()
    lines: dict[str, int] = {}
    for number, text in read_lines(path):
        try:
            name = class_name(text)
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error}") from None
        if name in lines:
            raise UserError(f"{path}:{number}: '{name}' is in line {lines[name]}, too; keep one")
        lines[name] = number
    try:
        return check_names(lines, class_name, "class")
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _splits(listed: Path, table: ManifestTable) -> list[str]:
    """Return train or test for each image: as named, or drawn."""
    rows = table.rows
    if "split" in table.header:
        splits = [row.split for row in rows]
        if len(set(splits)) < 2:
            raise UserError(f"{listed}: split is '{splits[0]}' in every line; name test images and others")
        return splits
    splits = draw_splits(
        [row.path.relative_to(listed.parent).as_posix() for row in rows],
        [row.words for row in rows],
        [row.patient for row in rows] if "patient" in table.header else (),
        [row.site for row in rows] if "site" in table.header else (),
        multilabel=table.multilabel,
    )
    if SPLITS[1] not in splits:
        raise UserError(
            f"{listed}: no class has a test image to spare: one image or patient alone cannot be split into training "
            "and test images; add some, or name each image's side in a column 'split'"
        )
    return splits


def _numbered(
    names: list[str] | None, parts: list[npt.NDArray[np.int64]]
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    """Return the place of each image's name among the sorted names, for both parts."""
    if names is None:
        return None, None
    numbers = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
    return numbers[parts[0]], numbers[parts[1]]
