"""The lines of a manifest, one image each; `common/data/sources/manifest.py` says what its columns mean."""

import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.data.sources.file_sets import Report, Row, inside, refuse
from common.data.sources.manifest_header import read_listed
from common.data.sources.splits import SPLITS
from common.errors import UserError
from common.names import class_name, site_name

# takes the header and the rows and returns the columns of 0 and 1 that are labels
ChooseColumns = Callable[[list[str], list[Row]], tuple[str, ...]]


@dataclass(frozen=True)
class ManifestRow:
    """One image of a manifest.

    Attributes:
        number: its line.
        name: its path as written.
        path: its file.
        words: its labels.
        patient: '' where there is no such column, as of the following.
        split: train or test.
        site: may be empty in any row.
    """

    number: int
    name: str
    path: Path
    words: tuple[str, ...]
    patient: str
    split: str
    site: str


@dataclass(frozen=True)
class ManifestTable:
    """A manifest's images.

    Attributes:
        header: names of its columns.
        rows: those without a mistake.
        columns: which columns are labels, 0 or 1; () where labels are words in a column.
        notes: what of the header was taken for what.
    """

    header: tuple[str, ...]
    rows: tuple[ManifestRow, ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels, or none."""
        return "label" not in self.header


def read_rows(listed: Path, choose: ChooseColumns, report: Report | None = None) -> ManifestTable:
    """Read a manifest.

    Args:
        listed: the CSV.
        choose: says which columns are labels where there is neither `label` nor `labels`.
        report: called for each bad row, which is then skipped; by default the first one is an error.

    Raises:
        UserError: the file cannot be read as such a table, or what `report` raises.
    """
    report = report or refuse(listed)
    header, table, notes = read_listed(listed, report)
    if "label" in header and "labels" in header:
        raise UserError(f"{listed}: has columns 'label' and 'labels'; keep one of them")
    columns: tuple[str, ...] = ()
    if "label" not in header and "labels" not in header:
        columns = choose(header, [row for _, row in table])
        if not columns:
            raise UserError(f"{listed}: no labels; add a column 'label', 'labels', or one of 0 and 1 for each class")
    folder = _Folder(listed.parent)
    rows: dict[Path, ManifestRow] = {}
    for number, row in table:
        try:
            read = _read_row(folder, number, row, columns)
            if (first := rows.setdefault(read.path, read)) is not read:
                raise UserError(f"image '{read.name}' is in line {first.number}, too; keep one")
        except UserError as error:
            report(number, str(error))
    return ManifestTable(tuple(header), tuple(rows.values()), columns, notes)


class _Folder:
    """The manifest's folder, which no row may lead out of, not even by a link."""

    def __init__(self, path: Path) -> None:
        self.path, self._real = path, os.path.realpath(path)

    def find(self, name: str) -> Path:
        path = inside(self.path, name)
        if path is None:
            raise UserError(f"image '{name}': give a path below the manifest's folder")
        try:
            there = stat.S_ISREG(path.stat().st_mode)
        except OSError:
            there = False
        if not there:
            hint = "; write / between folders and file" if "\\" in name else ""
            raise UserError(f"image '{name}': there is no file {path}{hint}")
        if os.path.commonpath([self._real, os.path.realpath(path)]) != self._real:
            raise UserError(f"image '{name}': a link leads out of the manifest's folder; put the file itself there")
        return path


def _read_row(folder: _Folder, number: int, row: Row, columns: tuple[str, ...]) -> ManifestRow:
    name = row["image"]
    path = folder.find(name)
    for key in ("label", "patient"):
        if row.get(key) == "":
            raise UserError(f"{key} is empty; give every image one, or remove the column")
    split = row.get("split", "").casefold()
    if "split" in row and split not in SPLITS:
        hint = "; validation images are drawn of the training images, by evaluate-on: validation"
        raise UserError(
            f"split is '{row['split']}', expected {' or '.join(SPLITS)}{hint if split.startswith('val') else ''}"
        )
    words, site = _words(row, columns), row.get("site", "")
    try:
        site = site and site_name(site)
    except ValueError as error:
        raise UserError(f"site '{site}': {error}") from None
    return ManifestRow(number, name, path, words, row.get("patient", ""), split, site)


def _words(row: Row, columns: tuple[str, ...]) -> tuple[str, ...]:
    if "label" in row:
        return (_word(row["label"]),)
    if "labels" in row:
        return tuple(_word(word) for word in re.split("[|;]", row["labels"]) if word.strip())
    if wrong := [f"'{name}' is '{row[name]}'" for name in columns if row[name] not in ("0", "1")]:
        raise UserError(f"{', '.join(wrong)}, expected 0 or 1; if it is no label, remove the column")
    return tuple(name for name in columns if row[name] == "1")


def _word(text: str) -> str:
    try:
        return class_name(text)
    except ValueError as error:
        raise UserError(f"label '{text}' {error}") from None


def flag_columns(names: Iterable[str], rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns that are labels where nobody says which: 0 or 1 in at least half of their rows.

    The other rows are then mistakes: a column with one wrong cell must not be lost for it.
    """
    return tuple(name for name in names if 2 * sum(row[name] in ("0", "1") for row in rows) >= len(rows))


def report_leaks(patients: Iterable[tuple[int, str, str]], report: Report) -> None:
    """Report each row whose patient is on the other side of the split in an earlier row.

    Args:
        patients: line, patient and split of each image.
    """
    first: dict[str, tuple[int, str]] = {}
    for number, patient, split in patients:
        line, other = first.setdefault(patient, (number, split))
        if split != other:
            report(
                number,
                f"patient '{patient}' is in {split} here and in {other} in line {line}: a leak; split by patient",
            )
