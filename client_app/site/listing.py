"""The images that a site's `data` lists, one by one: file, labels in the experiment's words, patient, split.

Bad rows go to a `ReportProblem` callback: training stops at the first one, `fednc-site check` lists all.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

from client_app.site.config import SiteConfig
from client_app.site.withdrawn import read_withdrawn
from common.data.sources.discovery import Skipped, find_classes, has_sides, is_text, skipped_notes, unused_notes
from common.data.sources.file_sets import Row
from common.data.sources.manifest_header import ABOUT
from common.data.sources.manifest_labels import report_labels, report_patients, spelling_hint
from common.data.sources.manifest_rows import ManifestRow, flag_columns, read_rows, report_leaks
from common.data.sources.splits import SPLITS, draw_splits, read_splits, write_splits
from common.errors import UserError, did_you_mean
from common.names import closest, lookalikes, rename_hint


@dataclass(frozen=True)
class Problem:
    """A problem at a site that a person must fix.

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


ReportProblem = Callable[[Problem], None]


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
        site: whose it is, where the manifest says so: of each, the same share is for testing.
    """

    path: Path
    name: str
    place: str
    labels: tuple[str, ...]
    patient: str
    split: str
    row: int | None = None
    site: str = ""


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


def raise_problem(problem: Problem) -> None:
    """Raise the first problem as `UserError`."""
    raise UserError(str(problem))


def list_images(
    config: SiteConfig,
    classes: Sequence[str] | None,
    report_problem: ReportProblem = raise_problem,
    withdrawn: bool = False,
) -> Listing:
    """List a site's images, of a manifest or of folders.

    Args:
        config: the site's.
        classes: the experiment's; None: any label is allowed.
        report_problem: called for each bad row, which is then skipped.
        withdrawn: whether also those of patients who have withdrawn.

    Raises:
        UserError: what has no place in the list, such as a manifest that is no CSV, or what `report_problem` raises.
    """
    if classes is not None:
        check_class_map(config, classes)
    listed = config.data / "manifest.csv" if config.data.is_dir() else config.data
    listing = (_of_manifest if listed.is_file() else _of_folders)(config, listed, classes, report_problem)
    images = _labelled(config, _within(listing.images, listed.parent, report_problem), classes, report_problem)
    notes = listing.notes
    if not withdrawn and (gone := read_withdrawn(config)):
        left = [image for image in images if image.patient not in gone and image.name not in gone]
        notes += (f"{len(images) - len(left)} images of patients who have withdrawn are not read",)
        images = left
    images = _split(config, images, listing.multilabel)
    if any(image.patient for image in images):
        _report_leaks(images, report_problem)
    return replace(listing, images=tuple(sorted(images, key=lambda image: image.name)), notes=notes)


def _split(config: SiteConfig, images: list[Image], multilabel: bool) -> list[Image]:
    """Return the images, each with a split: its own, the one that was drawn before, or one drawn now."""
    if all(image.split for image in images):
        return images
    drawn = draw_splits(
        [image.name for image in images],
        [image.labels for image in images],
        [image.patient for image in images] if any(image.patient for image in images) else (),
        [image.site for image in images],
        config.test_share,
        read_splits(splits_file(config)),
        multilabel,
    )
    return [replace(image, split=image.split or split) for image, split in zip(images, drawn, strict=True)]


def splits_file(config: SiteConfig) -> Path:
    """Return where a site keeps which image is on which side."""
    return config.state_dir / f"splits-{quote(config.name, safe='')}.csv"


def save_splits(config: SiteConfig, listing: Listing) -> None:
    """Write down which image is on which side, so that it stays there; images that are gone may come back.

    Raises:
        UserError: it cannot be written.
    """
    path = splits_file(config)
    before = read_splits(path)
    now = before | {image.name: image.split for image in listing.images}
    if now == before:
        return
    try:
        write_splits(path, ("image", "split"), sorted(now.items()))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); look at state-dir") from None


def check_class_map(config: SiteConfig, classes: Sequence[str]) -> None:
    """Refuse a map to a class that the experiment does not have."""
    for local, name in config.class_map.items():
        if name not in classes:
            raise UserError(
                f"site '{config.name}': class-map: '{local}: {name}': the experiment has no class '{name}'; "
                f"{did_you_mean(closest(name, classes))}it has {', '.join(classes)}"
            )


def find_class(config: SiteConfig, word: str, classes: Sequence[str] | None) -> str:
    """Return the experiment's class that a site's word means; raise `UserError` if there is none.

    Without an experiment any class will do.
    """
    word = unicodedata.normalize("NFC", word).strip()
    name = config.class_map.get(word, word)
    if classes is None or name in classes:
        return name
    raise UserError(
        f"label '{word}' is no class of the experiment; {spelling_hint(word, classes)}correct it, or map it with "
        f"class-map: {{'{word}': a class}}; classes: {', '.join(classes)}"
    )


def _of_manifest(
    config: SiteConfig, listed: Path, classes: Sequence[str] | None, report_problem: ReportProblem
) -> Listing:
    def report(number: int, reason: str) -> None:
        report_problem(Problem("row", f"{listed}:{number}", reason, number))

    table = read_rows(listed, partial(_label_columns, config, classes), report)
    if classes is None:  # with an experiment, a label that looks like one of its classes is none of them
        report_labels(table, None, report, lambda word: config.class_map.get(word, word))
    notes = tuple(f"{listed.name}: {note}" for note in report_patients(table, report))
    if table.columns and (unused := [name for name in table.header if name not in (*ABOUT, *table.columns)]):
        what = "no class of the experiment" if classes is not None else "no label, for most rows have neither 0 nor 1"
        notes += (f"{listed.name}: not used, as {what}: {', '.join(unused)}",)

    def image(row: ManifestRow) -> Image:
        name = row.path.relative_to(listed.parent).as_posix()
        place = f"{listed}:{row.number}"
        return Image(row.path, name, place, row.words, row.patient, row.split, row.number, row.site)

    labelled = tuple(config.class_map.get(name, name) for name in table.columns) or None
    return Listing(tuple(map(image, table.rows)), table.multilabel, labelled, (*table.notes, *notes))


def _label_columns(
    config: SiteConfig, classes: Sequence[str] | None, header: list[str], rows: list[Row]
) -> tuple[str, ...]:
    """Return the columns of the experiment's classes; without one, those of 0 and 1."""
    names = [name for name in header if name not in ABOUT]
    if classes is None:
        return flag_columns(names, rows)
    return tuple(name for name in names if config.class_map.get(name, name) in classes)


def _of_folders(
    config: SiteConfig, listed: Path, classes: Sequence[str] | None, report_problem: ReportProblem
) -> Listing:
    root = listed.parent
    if not config.data.is_dir():
        raise UserError(f"{config.data}: no such file or folder")
    split = has_sides(root)
    images: list[Image] = []
    skipped: list[Skipped] = []
    empty: list[str] = []
    names: dict[str, Path] = {}
    for side in SPLITS if split else ("",):
        found = find_classes(root / side, root)
        skipped += found.skipped
        for name, paths in found.classes.items():
            names.setdefault(name, root / side / name)
            if not paths:
                empty.append(f"{(root / side / name).relative_to(root).as_posix()}/: a class's folder without an image")
            try:
                find_class(config, name, classes)
            except UserError as error:
                report_problem(Problem("label", str(root / side / name), str(error)))
                continue
            images += [Image(path, path.relative_to(root).as_posix(), str(path), (name,), "", side) for path in paths]
    notes = (*skipped_notes(skipped), *(unused_notes(root, SPLITS) if split else ()), *empty)
    if not images:
        expected = "expected manifest.csv, <class>/…, or train/<class>/… and test/<class>/…"
        raise UserError("; ".join((f"{config.data}: no images; {expected}", *notes)))
    for name, other in lookalikes(names) if classes is None else ():
        if config.class_map.get(name, name) != config.class_map.get(other, other):
            reason = f"class '{name}' looks like '{other}': {rename_hint(name, other)}"
            report_problem(Problem("label", str(names[name]), reason))
    return Listing(tuple(images), False, notes=notes)


def _within(images: Sequence[Image], root: Path, report_problem: ReportProblem) -> list[Image]:
    """Return the images whose files are below the data's folder once links are followed, and have proper names."""
    inner = []
    resolved = root.resolve()
    for image in images:
        if not is_text(image.name):
            report_problem(Problem("row", ascii(image.name), "its name has characters that are not UTF-8; rename it"))
        elif image.path.resolve().is_relative_to(resolved):
            inner.append(image)
        else:
            report_problem(
                Problem("row", image.place, f"image '{image.name}': a link leads out of {root}; copy it", image.row)
            )
    return inner


def _labelled(
    config: SiteConfig, images: list[Image], classes: Sequence[str] | None, report_problem: ReportProblem
) -> list[Image]:
    known = []
    for image in images:
        try:
            labels = tuple(find_class(config, word, classes) for word in image.labels)
        except UserError as error:
            report_problem(Problem("label", image.place, str(error), image.row))
            continue
        known.append(replace(image, labels=labels))
    return known


def _report_leaks(images: list[Image], report_problem: ReportProblem) -> None:
    places = {image.row or 0: image.place for image in images}

    def report(number: int, reason: str) -> None:
        report_problem(Problem("patient", places[number], reason, number))

    report_leaks(((image.row or 0, image.patient, image.split) for image in images), report)
