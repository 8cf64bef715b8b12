"""Which images of a list without a split are test images: one rule, in a simulation and at a real site.

Patients, or images where nobody names patients, are the units. In the order of a hash of their names each becomes a
test unit where that brings the classes nearer to the wanted share of test images (`stratified_rows`): a class of two
units or more has test images wherever they can be spared, and keeps one to train on. So the split depends on names,
labels and share alone, on no seed, and on no order of rows.

When data are added, a split that is drawn anew moves few: of images with one label and without patients, an added one
moves one other at most. Of patients and of several labels that is likely, and not certain. A site therefore keeps
what was drawn in its state: an image that is there stays on its side, and later images of its patient go to that side.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.config.sections.data import TEST_SHARE
from common.data.sources.file_sets import read_table
from common.data.sources.stratified import stratified_rows
from common.errors import UserError
from common.files import private_folder, write_text
from common.seeds import numpy_generator

SPLITS = ("train", "test")


def draw_splits(
    names: Sequence[str],
    labels: Sequence[Sequence[str]],
    patients: Sequence[str] = (),
    sites: Sequence[str] = (),
    share: float = TEST_SHARE,
    kept: Mapping[str, str] | None = None,
    multilabel: bool = False,
) -> list[str]:
    """Return train or test for each of N images.

    Args:
        names: [N], each its own.
        labels: [N] words of each image; one each unless `multilabel`.
        patients: [N], or () where nobody is named.
        sites: [N], each of which gets its share; or ().
        share: of test images, in [0, 1).
        kept: name → split of an earlier draw.
        multilabel: whether an image may have several labels, or none.

    Raises:
        UserError: a patient has images on both sides of what is kept.
    """
    if not names:
        return []
    order = sorted(range(len(names)), key=names.__getitem__)  # of rows: sums are the same however they are listed
    units = [(patients or names)[row] for row in order]
    values, unit_of = np.unique(np.array(units, object), return_inverse=True)
    fixed = _fixed(units, unit_of.tolist(), [names[row] for row in order], kept or {})
    if len(fixed) == len(values) or not share:
        sides = [SPLITS[fixed.get(unit, False)] for unit in unit_of.tolist()]
        return [side for _, side in sorted(zip(order, sides, strict=True))]
    held = stratified_rows(
        _numbered([labels[row] for row in order], multilabel),
        np.unique(np.array([sites[row] for row in order], object), return_inverse=True)[1] if sites else None,
        unit_of.astype(np.int64),
        share,
        numpy_generator(0, "splits"),
        lambda _: np.argsort([_place(unit) for unit in values.tolist()], kind="stable"),
        fixed,
    )
    splits = [SPLITS[0]] * len(names)
    for row in held.tolist():
        splits[order[row]] = SPLITS[1]
    return splits


def _place(unit: str) -> int:
    return int.from_bytes(hashlib.sha256(unit.encode(errors="surrogatepass")).digest()[:8], "big") >> 1


def _numbered(labels: Sequence[Sequence[str]], multilabel: bool) -> npt.NDArray[np.int64] | npt.NDArray[np.bool_]:
    words = {word: c for c, word in enumerate(sorted({word for of in labels for word in of}))}
    if not multilabel:
        return np.array([words[of[0]] for of in labels], np.int64)
    flags = np.zeros((len(labels), len(words)), np.bool_)
    for row, of in enumerate(labels):
        flags[row, [words[word] for word in of]] = True
    return flags


def _fixed(units: list[str], unit_of: list[int], names: list[str], kept: Mapping[str, str]) -> dict[int, bool]:
    """Return the units of which an image is kept, and whether it is a test image."""
    fixed: dict[int, bool] = {}
    first: dict[int, str] = {}
    for unit, number, name in zip(units, unit_of, names, strict=True):
        if name not in kept:
            continue
        is_test, before = kept[name] == SPLITS[1], first.setdefault(number, name)
        if fixed.setdefault(number, is_test) != is_test:
            raise UserError(
                f"patient '{unit}' has images in training and in test, such as '{before}' and '{name}': they were "
                "split before they had this patient. Name the split in the list, or remove the earlier one: test "
                "images may then become training images"
            )
    return fixed


def read_splits(path: Path) -> dict[str, str]:
    """Return what a file of `write_splits` keeps, image → split; nothing where there is none.

    Raises:
        UserError: it cannot be read as such.
    """
    if not path.exists():
        return {}
    what_to_do = "put back an earlier copy, or remove it: test images may then become training images"
    try:
        _, rows = read_table(path, ("image", "split"), strict=True)
    except UserError as error:
        raise UserError(f"{error}: {what_to_do}") from None
    if odd := [number for number, row in rows if row["split"] not in SPLITS]:
        raise UserError(f"{path}:{odd[0]}: split is neither train nor test: {what_to_do}")
    return {row["image"]: row["split"] for _, row in rows}


def write_splits(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV of images and their splits, for its owner alone; a crash leaves the old one or the new one.

    Raises:
        OSError: it cannot be written.
    """
    private_folder(path.parent)
    write_text(path, splits_text(columns, rows))


def splits_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return what `write_splits` writes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
