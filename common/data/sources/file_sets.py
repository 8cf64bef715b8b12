"""What the loaders of listed image files share: lists and tables, paths below a folder, the finished data set."""

import codecs
import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.config import Experiment
from common.data.images.bad_images import Failure, skip_bad_images, without_rows
from common.data.images.encoded import FileImages
from common.data.images.pixel_cache import cache_folder, keep_decoded
from common.data.images.pretrained import interpolation_of
from common.data.images.source import Labels
from common.data.sources.dataset import MOMENT_FILES, Dataset, training_moments
from common.data.sources.duplicates import copy_notes, equal_files, names_below
from common.errors import UserError

Row = dict[str, str]
Report = Callable[[int, str], None]  # takes a line's number and what is wrong with it
Rename = Callable[[list[str]], list[str]]


_MISTAKES_SHOWN = 20


@dataclass(frozen=True, eq=False)
class Side:
    """Training or test images: files, their labels, and where each was listed, for errors."""

    paths: list[Path]
    labels: Labels
    places: list[str] | None = None

    def without(self, failures: Sequence[Failure]) -> "Side":
        """Return the images that can be read."""
        return Side(*(without_rows(values, failures) for values in (self.paths, self.labels, self.places)))


def file_dataset(
    name: str,
    classes: tuple[str, ...],
    train: Side,
    test: Side,
    experiment: Experiment,
    channels: int | None = None,
    **more: Any,
) -> Dataset:
    """Return the data set of these files.

    Args:
        name: the data set's.
        classes: C names.
        train: training images.
        test: test images.
        experiment: its image size, the filter for it, how more than 8 bits become 8, how many bad images may be left
            out, and where decoded images are kept.
        channels: see `FileImages`.
        more: further fields of `Dataset`.

    Raises:
        BadImagesError: images that cannot be read, all by name.
        UserError: sides of different sizes.
    """
    size, depth = experiment.data.image_size, experiment.data.depth
    interpolation = interpolation_of(experiment)
    first, second = (
        FileImages(side.paths, side.labels, size, channels, side.places, depth, interpolation) for side in (train, test)
    )
    if (first.size, first.channels) != (second.size, second.channels):
        raise UserError(
            f"{name}: the first training image is {first.size} × {first.channels} channels, the first test image "
            f"{second.size} × {second.channels}; set image-size, and store all of them as grey or all as colour"
        )
    kept = keep_decoded([first, second], experiment.data.image_memory << 20, cache_folder(experiment))
    failures = [found for _, found in kept]
    if any(failures):
        total, root = len(first) + len(second), experiment.data.root
        note = skip_bad_images(failures, total, experiment.data.skip_bad_images, root if root.is_dir() else root.parent)
        train, test = (side.without(failed) for side, failed in zip((train, test), failures, strict=True))
        for part, failed in zip(("train", "test"), failures, strict=True):
            of_rows = {f"{part}_{what}" for what in ("sites", "groups", "names")} & more.keys()
            more |= {key: without_rows(more[key], failed) for key in of_rows}
        more["notes"] = (*more.get("notes", ()), note)
        return file_dataset(name, classes, train, test, experiment, channels, **more)
    (train_images, _), (test_images, _) = kept
    mean, std = training_moments(train_images, MOMENT_FILES)
    more["notes"] = (*more.get("notes", ()), *_copies(train, test))
    return Dataset(name, classes, train_images, test_images, mean, std, **more)


def _copies(train: Side, test: Side) -> tuple[str, ...]:
    """Return a line for each way in which the same image is there twice."""
    paths, border = [*train.paths, *test.paths], len(train.paths)
    splits = ["train"] * border + ["test"] * len(test.paths)

    def labels(row: int) -> npt.NDArray[Any]:
        return np.asarray(train.labels[row] if row < border else test.labels[row - border])

    return copy_notes(
        equal_files(paths),
        splits,
        lambda one, other: np.array_equal(labels(one), labels(other)),
        names_below(paths),
    )


def find_list(root: Path, pattern: str, dataset: str) -> Path:
    """Return the only file of this pattern in a folder or one folder below; raise `UserError` if there is none."""
    found = sorted({*root.glob(pattern), *root.glob(f"*/{pattern}")})
    if not found:
        raise UserError(f"{dataset}: no {pattern} in {root} or one folder below; set data-dir to the folder with it")
    if len(found) > 1:
        raise UserError(f"{dataset}: several files {pattern} in {root}: {', '.join(map(str, found))}; keep one")
    return found[0]


def read_text(listed: Path) -> str:
    """Return a list's text; raise `UserError` naming the line that is not UTF-8."""
    try:
        content = listed.read_bytes().removeprefix(codecs.BOM_UTF8)  # spreadsheets write one
    except OSError as error:
        raise UserError(f"{listed}: cannot be read ({error.strerror})") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(
            f"{listed}:1: not UTF-8 text but UTF-16; save the list as UTF-8 (in a spreadsheet: 'CSV UTF-8')"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{listed}:{number}: not UTF-8 text; save the list as UTF-8") from None


def read_lines(listed: Path) -> list[tuple[int, str]]:
    """Return the lines that are not blank, stripped, with their numbers; raise `UserError` if there are none."""
    lines = [(number, line.strip()) for number, line in enumerate(read_text(listed).splitlines(), 1) if line.strip()]
    if not lines:
        raise UserError(f"{listed}: lists nothing")
    return lines


def refuse(listed: Path) -> Report:
    """Return the report that raises a list's first mistake as `UserError`."""

    def report(number: int, reason: str) -> None:
        raise UserError(f"{listed}:{number}: {reason}")

    return report


class Mistakes:
    """A report that collects a list's mistakes; at the end of its `with` block they are raised as one `UserError`."""

    def __init__(self, listed: Path) -> None:
        self._listed = listed
        self._found: list[tuple[int, str]] = []

    def __call__(self, number: int, reason: str) -> None:
        """Record what is wrong with a line."""
        self._found.append((number, reason))

    def __enter__(self) -> "Mistakes":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self._found or not (error is None or isinstance(error, UserError)):
            return
        found = sorted(dict.fromkeys(self._found))
        (number, reason), *others = found[:_MISTAKES_SHOWN]
        more = [f"line {line}: {why}" for line, why in others]
        if len(found) > _MISTAKES_SHOWN:
            more.append(f"and {len(found) - _MISTAKES_SHOWN} more")
        raise UserError(" | ".join([f"{self._listed}:{number}: {reason}", *more])) from None


def read_table(
    listed: Path,
    columns: tuple[str, ...],
    strict: bool = False,
    report: Report | None = None,
    separator: str = ",",
    rename: Rename = list,
) -> tuple[list[str], list[tuple[int, Row]]]:
    """Return a CSV's header and its rows with their line numbers, without blanks around a field.

    Args:
        listed: the CSV.
        columns: that it must have.
        strict: columns must have different names, and rows as many fields; otherwise what a row lacks is ''.
        report: called for each row of another length, which is then skipped; by default the first one is an error.
        separator: between fields.
        rename: returns the names that the header's columns have in the table.

    Raises:
        UserError: unreadable text, a missing column, no row, or what `strict` forbids.
    """
    # strict: an open quotation would swallow the lines after it.
    text = io.StringIO(read_text(listed), newline="")
    # skipped, a tab would be a blank
    reader = csv.reader(text, strict=True, skipinitialspace=separator != "\t", delimiter=separator)
    try:
        lines = [(reader.line_num, [field.strip() for field in fields]) for fields in reader if fields]
    except csv.Error as error:
        where = f"{listed}:{reader.line_num}"
        raise UserError(f"{where}: not readable as CSV ({error}); look for a quotation mark left open") from None
    header = rename(lines[0][1]) if lines else []
    if strict:
        lines = _check_shape(listed, header, lines, report or refuse(listed))
    rows = [
        (number, dict.fromkeys(header, "") | dict(zip(header, fields, strict=False))) for number, fields in lines[1:]
    ]
    if missing := [column for column in columns if column not in header]:
        found = ", ".join(header) or "none"
        raise UserError(f"{listed}: no column '{missing[0]}'; expected {', '.join(columns)}, found {found}")
    if not rows:
        raise UserError(f"{listed}: lists no image")
    return header, rows


def _check_shape(
    listed: Path, header: list[str], lines: list[tuple[int, list[str]]], report: Report
) -> list[tuple[int, list[str]]]:
    """Return the lines that have as many fields as the header."""
    for place, name in enumerate(header):
        if not name or name in header[:place]:
            raise UserError(f"{listed}: column {place + 1} is named {name!r}; give each column a name of its own")
    for number, fields in lines:
        if len(fields) != len(header):
            report(number, f"has {len(fields)} fields, the first line {len(header)}")
    return [(number, fields) for number, fields in lines if len(fields) == len(header)]


def inside(root: Path, name: str) -> Path | None:
    """Return the file below a folder that a list names, or None where the name leads out of the folder."""
    path = Path(name)
    if path.anchor or ".." in path.parts or not path.parts or "\0" in name:
        return None
    return root / path


def check_patients(where: str, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]) -> None:
    """Raise `UserError` where a patient has images on both sides of the split."""
    if len(both := np.intersect1d(train, test)):
        raise UserError(
            f"{where}: patient {both[0]} has images in training and in test, {len(both)} such in all: a leak; "
            "split by patient"
        )
