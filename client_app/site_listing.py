"""The images that a site's `data` lists, one by one: file, labels in the experiment's words, patient, split.

A row with a mistake is told to a `Tell`: training stops at the first one, `fednc-site check` names all of them.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from client_app.site_config import SiteConfig
from common.data.discovery import Skipped, find_classes, skipped_notes, unused_notes
from common.data.file_sets import Row
from common.data.manifest_rows import ABOUT, SPLITS, ManifestRow, read_rows, report_leaks
from common.errors import UserError, nearest
from common.experiment import did_you_mean


@dataclass(frozen=True)
class Problem:
    """Something at a site that a person must mend.

    Attributes:
        kind: row, label or patient here; `preflight.py` has more.
        place: file, and line where there is one.
        reason: what is wrong and what to do.
        row: line of the manifest, or None.
    """

    kind: str
    place: str
    reason: str
    row: int | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


Tell = Callable[[Problem], None]


@dataclass(frozen=True)
class Image:
    """One image of a site.

    Attributes:
        path: its file.
        name: its path below the data's folder, with slashes.
        place: where it is listed, for errors.
        labels: its classes.
        patient: '' where unknown.
        split: train or test.
        row: line of the manifest, or None.
    """

    path: Path
    name: str
    place: str
    labels: tuple[str, ...]
    patient: str
    split: str
    row: int | None = None


@dataclass(frozen=True)
class Listing:
    """A site's images without mistakes, by name, and whether they may have several labels.

    Attributes:
        images: sorted by name.
        multilabel: several labels an image, or none.
        labelled: classes that the site labels: of columns of 0 and 1 those that are there; None: it does not say.
        notes: what a person should know of the data, a line each.
    """

    images: tuple[Image, ...]
    multilabel: bool
    labelled: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def refuse(problem: Problem) -> None:
    """Raise the first problem as `UserError`."""
    raise UserError(str(problem))


def list_images(config: SiteConfig, classes: Sequence[str] | None, tell: Tell = refuse) -> Listing:
    """List a site's images, of a manifest or of folders.

    Args:
        config: the site's.
        classes: the experiment's; None: any label is allowed.
        tell: is told of each mistake; that image is left out then.

    Raises:
        UserError: what has no place in the list, such as a manifest that is no CSV, or what `tell` raises.
    """
    if classes is not None:
        check_class_map(config, classes)
    listed = config.data / "manifest.csv" if config.data.is_dir() else config.data
    listing = (_of_manifest if listed.is_file() else _of_folders)(config, listed, classes, tell)
    images = _labelled(config, _within(listing.images, listed.parent, tell), classes, tell)
    drawn = draw_splits([image.patient or image.name for image in images], config.test_share)
    images = [replace(image, split=image.split or split) for image, split in zip(images, drawn, strict=True)]
    if any(image.patient for image in images):
        _tell_leaks(images, tell)
    return replace(listing, images=tuple(sorted(images, key=lambda image: image.name)))


def check_class_map(config: SiteConfig, classes: Sequence[str]) -> None:
    """Refuse a map to a class that the experiment does not have."""
    for local, name in config.class_map.items():
        if name not in classes:
            raise UserError(
                f"site '{config.name}': class-map: '{local}: {name}': the experiment has no class '{name}'; "
                f"{did_you_mean(nearest(name, classes))}it has {', '.join(classes)}"
            )


def find_class(config: SiteConfig, word: str, classes: Sequence[str] | None) -> str:
    """Return the experiment's class that a site's word means; raise `UserError` if there is none.

    Without an experiment any class will do.
    """
    name = config.class_map.get(word, word)
    if classes is None or name in classes:
        return name
    raise UserError(
        f"label '{word}' is no class of the experiment; {did_you_mean(nearest(word, classes))}mend it, or map it with "
        f"class-map: {{'{word}': a class}}; classes: {', '.join(classes)}"
    )


def draw_splits(units: Sequence[str], test_share: float) -> list[str]:
    """Return train or test for each unit: patients, or images where nobody is named.

    A unit's side depends on its own hash alone, so that new data move nobody from training to test. Only where one
    side would be empty, the unit that is nearest to it goes there.
    """
    places = {unit: int.from_bytes(hashlib.sha256(unit.encode()).digest()[:8], "big") / 2**64 for unit in units}
    limit = test_share
    if test_share and len(places) > 1:
        ordered = sorted(places.values())
        limit = min(max(limit, ordered[1]), ordered[-1])  # test below the limit: one at least, never all
    return [SPLITS[places[unit] < limit] for unit in units]


def _of_manifest(config: SiteConfig, listed: Path, classes: Sequence[str] | None, tell: Tell) -> Listing:
    def report(number: int, reason: str) -> None:
        tell(Problem("row", f"{listed}:{number}", reason, number))

    table = read_rows(listed, partial(_label_columns, config, classes), report)

    def image(row: ManifestRow) -> Image:
        name = row.path.relative_to(listed.parent).as_posix()
        return Image(row.path, name, f"{listed}:{row.number}", row.words, row.patient, row.split, row.number)

    labelled = tuple(config.class_map.get(name, name) for name in table.columns) or None
    return Listing(tuple(map(image, table.rows)), table.multilabel, labelled)


def _label_columns(
    config: SiteConfig, classes: Sequence[str] | None, header: list[str], rows: list[Row]
) -> tuple[str, ...]:
    """Return the columns of the experiment's classes; without one, those of 0 and 1 in each row."""
    names = [name for name in header if name not in ABOUT]
    if classes is None:
        return tuple(name for name in names if all(row[name] in ("0", "1") for row in rows))
    return tuple(name for name in names if config.class_map.get(name, name) in classes)


def _of_folders(config: SiteConfig, listed: Path, classes: Sequence[str] | None, tell: Tell) -> Listing:
    root = listed.parent
    if not config.data.is_dir():
        raise UserError(f"{config.data}: no such file or folder")
    split = all((root / side).is_dir() for side in SPLITS)
    images: list[Image] = []
    skipped: list[Skipped] = []
    for side in SPLITS if split else ("",):
        found = find_classes(root / side, root)
        skipped += found.skipped
        for name, paths in found.classes.items():
            try:
                find_class(config, name, classes)
            except UserError as mistake:
                tell(Problem("label", str(root / side / name), str(mistake)))
                continue
            images += [Image(path, path.relative_to(root).as_posix(), str(path), (name,), "", side) for path in paths]
    notes = skipped_notes(skipped) + (unused_notes(root, SPLITS) if split else ())
    if not images:
        expected = "expected manifest.csv, <class>/…, or train/<class>/… and test/<class>/…"
        raise UserError("; ".join((f"{config.data}: no images; {expected}", *notes)))
    return Listing(tuple(images), False, notes=notes)


def _within(images: Sequence[Image], root: Path, tell: Tell) -> list[Image]:
    """Return the images whose files are below the data's folder once links are followed, and have proper names."""
    inner = []
    resolved = root.resolve()
    for image in images:
        if any("\ud800" <= letter <= "\udfff" for letter in image.name):  # Python's stand-ins for bytes of no letter
            tell(Problem("row", ascii(image.name), "its name has characters that are not UTF-8; rename it"))
        elif image.path.resolve().is_relative_to(resolved):
            inner.append(image)
        else:
            tell(Problem("row", image.place, f"image '{image.name}': a link leads out of {root}; copy it", image.row))
    return inner


def _labelled(config: SiteConfig, images: list[Image], classes: Sequence[str] | None, tell: Tell) -> list[Image]:
    known = []
    for image in images:
        try:
            labels = tuple(find_class(config, word, classes) for word in image.labels)
        except UserError as mistake:
            tell(Problem("label", image.place, str(mistake), image.row))
            continue
        known.append(replace(image, labels=labels))
    return known


def _tell_leaks(images: list[Image], tell: Tell) -> None:
    places = {image.row or 0: image.place for image in images}

    def report(number: int, reason: str) -> None:
        tell(Problem("patient", places[number], reason, number))

    report_leaks(((image.row or 0, image.patient, image.split) for image in images), report)
