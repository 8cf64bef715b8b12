"""Which files below a folder are images: by what is in them, whatever their names; and what was skipped, and why.

Entries that are hidden, at any depth, are no images, nor are the folders that systems add (`__MACOSX`, …). Links are
followed as long as they stay inside the root. A file that only its ending makes an image is one, so that a damaged
image is named when it is decoded instead of skipped.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.data.images.file_kinds import DICOM, HEAD, PILLOW, UNREAD, file_kind
from common.errors import UserError

SUFFIXES = frozenset(
    {
        *(".bmp", ".dcm", ".dicom", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm"),
        *(".avif", ".heic", ".nii", ".svs", ".tif", ".tiff", ".webp"),
    }
)
# why a file is skipped, as a note says it after their number
HIDDEN, NO_IMAGE, NO_CLASS = "hidden", "no images", "in no class's folder"
OUTSIDE, AGAIN = "links out of the folder", "links to what is there already"
BROKEN, UNREADABLE, CATALOGUE = "links to nothing", "not readable", "DICOMDIR"

_SYSTEMS = frozenset({"__macosx", "@eadir", "$recycle.bin", "thumbs.db", "desktop.ini"})
_CATALOGUE_UID = re.compile(rb"1\.2\.840\.10008\.1\.3\.10(?![\d.])")  # of 20 letters: no zero byte must follow
_SIDES = frozenset({"train", "training", "test", "testing"})  # how folders of a split are called, in any case
_NAMED = 3  # files that a note names of each reason


@dataclass(frozen=True)
class Skipped:
    """A file that is not taken as an image: its path below the root, with slashes, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Found:
    """Image files below a folder, in the order of their paths, and the files that were skipped."""

    images: tuple[Path, ...] = ()
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class FoundClasses:
    """The folders of classes in a folder, by name, with their images; and all files that were skipped."""

    classes: dict[str, tuple[Path, ...]]
    skipped: tuple[Skipped, ...]


def find_images(folder: Path, root: Path | None = None) -> Found:
    """Return the images at any depth below a folder; their paths go through links as they are.

    A file that can be reached in several ways counts once: by the path without a link where there is one.

    Args:
        folder: where to look.
        root: links may lead to anything in it; by default the folder.
    """
    return _Walk(root or folder).below(folder)


def find_classes(folder: Path, root: Path | None = None) -> FoundClasses:
    """Return the folders in a folder, each of which is a class, and their images.

    A class may be a link to a folder in the root. Its name is in Unicode's composed form and without blanks around it,
    as a class's name is everywhere: folders that differ in this alone, as after a copy from another system, are one
    class. Files beside the classes are skipped. Arguments as of `find_images`.
    """
    walk = _Walk(root or folder)
    classes: dict[str, tuple[Path, ...]] = {}
    skipped = walk.skipped
    for entry in walk.entries(folder):
        if entry.is_symlink() and not walk.follows(entry):
            continue
        if entry.is_dir():
            found = _Walk(walk.root).below(entry)
            name = unicodedata.normalize("NFC", entry.name).strip()
            classes[name] = classes.get(name, ()) + found.images
            skipped += found.skipped
        else:
            walk.skip(entry, _reason(entry) or NO_CLASS)
    return FoundClasses(classes, _ordered(skipped))


def has_sides(root: Path) -> bool:
    """Return whether a folder has `train` and `test`; without both its folders are classes.

    Raises:
        UserError: some of its folders are called like sides of a split and are not these two, such as `Train`,
            `testing`, or `train` alone: they would become classes, and the classes in them be lost.
    """
    folders = {path.name for path in root.iterdir() if path.is_dir()} if root.is_dir() else set()
    if {"train", "test"} <= folders:
        return True
    if meant := sorted(name for name in folders if name.casefold() in _SIDES):
        named = ", ".join(f"'{name}'" for name in meant)
        raise UserError(
            f"{root}: {named}: called like a side of a split; call the sides 'train' and 'test', each with a folder "
            "for each class, or, if it is a class, call it otherwise"
        )
    return False


def check_text(names: Iterable[str], root: Path) -> None:
    """Refuse files whose names are no text, all at once: no list, page or state could name them.

    Raises:
        UserError: names with bytes that are not UTF-8.
    """
    if odd := sorted(ascii(name) for name in names if not is_text(name)):
        number = f"{len(odd)} files" if len(odd) > 1 else "1 file"
        raise UserError(f"{root}: {number} with a name that is not UTF-8: {shortened(odd)}; rename what is so called")


def is_text(name: str) -> bool:
    """Return whether a file's name is UTF-8: Python has stand-ins for bytes of no letter."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def skipped_notes(skipped: Iterable[Skipped]) -> tuple[str, ...]:
    """Return one line that says how many files were skipped and why, with the first names; () where none was."""
    names: dict[str, list[str]] = {}
    for one in skipped:
        names.setdefault(one.reason, []).append(one.name)
    if not names:
        return ()
    parts = []
    for reason, of in sorted(names.items(), key=lambda item: (-len(item[1]), item[0])):
        parts.append(f"{len(of)} {reason if len(of) > 1 else _singular(reason)} ({shortened(sorted(of))})")
    number = sum(map(len, names.values()))
    return (f"{number} file{'s' * (number > 1)} skipped: {', '.join(parts)}",)


def unused_notes(root: Path, used: Sequence[str]) -> tuple[str, ...]:
    """Return a line that names a root's visible folders beside those that are used; () where there is none."""
    others = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name not in used)
    others = [name for name in others if not is_hidden(name)]
    return (f"beside {' and '.join(used)}, not used: {shortened(others)}",) if others else ()


def shortened(names: Sequence[str]) -> str:
    """Return the first few names as a note shows them."""
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def is_hidden(name: str) -> bool:
    """Return whether an entry's name says that people do not see it, or that a system made it."""
    return name.startswith(".") or name.lower() in _SYSTEMS


def _singular(reason: str) -> str:
    return reason.replace("images", "image").replace("links", "link")


def _ordered(skipped: Iterable[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(skipped, key=lambda one: one.name))


class _Walk:
    """One walk below a root, with what it skipped."""

    def __init__(self, root: Path) -> None:
        self.root, self._real = root, root.resolve()
        self.skipped: list[Skipped] = []
        self._images: list[Path] = []
        self._seen: set[Path] = set()  # folders and files without links
        self._links: list[Path] = []  # followed last: what they lead to may have a path of its own

    def below(self, folder: Path) -> Found:
        """Return the images below a folder of the root."""
        self._enter(folder)
        while self._links:
            link = self._links.pop(0)
            if self.follows(link):
                if link.is_dir():
                    self._enter(link)
                else:
                    self._take(link, link.resolve())
        return Found(tuple(sorted(self._images)), _ordered(self.skipped))

    def entries(self, folder: Path) -> list[Path]:
        """Return what is not hidden in a folder, by name."""
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            self.skip(folder, UNREADABLE)
            return []
        for entry in entries:
            if is_hidden(entry.name):
                inner = [path for path in entry.rglob("*") if not path.is_dir()]
                for path in inner or [entry]:
                    self.skip(path, HIDDEN)
        return [entry for entry in entries if not is_hidden(entry.name)]

    def follows(self, link: Path) -> bool:
        """Return whether a link leads to something below the root and not above itself; skip it where it does not."""
        reason = ""
        try:
            real = link.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a loop
            reason = BROKEN
        else:
            if not real.is_relative_to(self._real):
                reason = OUTSIDE
            elif link.parent.resolve().is_relative_to(real):
                reason = AGAIN
        if reason:
            self.skip(link, reason)
        return not reason

    def skip(self, path: Path, reason: str) -> None:
        """Note a file that is skipped."""
        self.skipped.append(Skipped(path.relative_to(self.root).as_posix(), reason))

    def _enter(self, folder: Path) -> None:
        real = folder.resolve()
        if real in self._seen:
            self.skip(folder, AGAIN)
            return
        self._seen.add(real)
        for entry in self.entries(folder):
            if entry.is_symlink():
                self._links.append(entry)
            elif entry.is_dir():
                self._enter(entry)
            else:
                self._take(entry, real / entry.name)

    def _take(self, path: Path, real: Path) -> None:
        reason = AGAIN if real in self._seen else _reason(path)
        self._seen.add(real)
        if reason is None:
            self._images.append(path)
        else:
            self.skip(path, reason)


def _reason(path: Path) -> str | None:
    """Return why a file is no image; None: it is one."""
    named = path.suffix.lower() in SUFFIXES or path.name.lower().endswith(".nii.gz")
    try:
        if not path.is_file():  # a socket, a pipe
            return NO_IMAGE
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return None if named else UNREADABLE
    kind = file_kind(head)
    if kind == DICOM and _CATALOGUE_UID.search(head, 0, 1024):
        return CATALOGUE
    return None if named or kind == DICOM or kind in PILLOW or kind in UNREAD else NO_IMAGE
