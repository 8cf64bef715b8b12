"""The first line of a manifest: what separates its fields, and which column is which, however a hospital writes it."""

from pathlib import Path

from common.data.sources.file_sets import Report, Row, read_table, read_text
from common.errors import UserError

TABLES = (".csv", ".tsv", ".txt")  # how lists of images may end
ABOUT = ("image", "split", "patient", "site", "label", "labels")  # columns that are no class

_OTHER_NAMES = {"image": ("filename", "file", "path")}  # in any case, as all of them
TABLES = (".csv", ".tsv", ".txt")  # how a manifest's name may end
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def read_listed(
    listed: Path, report: Report | None = None, strict: bool = True
) -> tuple[list[str], list[tuple[int, Row]], tuple[str, ...]]:
    """Return a manifest's header, with the names of `ABOUT` where a column has one of them in another way; its rows
    with their line numbers; and notes about what was taken for what.

    `Image`, `filename`, `file` or `path` is the image; `Label`, `PATIENT` and so on are what they say. Fields are
    separated by commas, semicolons or tabs: by what the first line says.

    Args:
        listed: the CSV.
        report: see `read_table`.
        strict: see `read_table`.

    Raises:
        UserError: as `read_table`; two columns that may be the same thing.
    """
    separator = _separator(listed)
    notes = [] if separator == "," else [f"{listed.name}: its fields are separated by {_SEPARATORS[separator]}"]

    def rename(header: list[str]) -> list[str]:
        names = list(header)
        for name in ABOUT:
            places = [place for place, written in enumerate(header) if _means(written) == name]
            different = list(dict.fromkeys(header[place] for place in places))
            if len(different) > 1:
                both = " and ".join(f"'{written}'" for written in different)
                raise UserError(f"{listed}: columns {both} may each be '{name}'; remove or rename all but one")
            for place in places:
                names[place] = name
            if different and different[0] != name:
                notes.append(f"{listed.name}: column '{different[0]}' is taken as '{name}'")
        return names

    header, rows = read_table(listed, ("image",), strict, report, separator, rename)
    return header, rows, tuple(notes)


def _means(written: str) -> str:
    """Return the name in `ABOUT` that a column's name stands for, or the name itself."""
    word = written.casefold()
    return next((name for name, others in _OTHER_NAMES.items() if word in others), word if word in ABOUT else written)


def _separator(listed: Path) -> str:
    """Return what separates the first line's fields: of what leaves a column of images, the one with most fields."""
    text = read_text(listed)
    first = next((line for line in text.splitlines() if line.strip()), "")
    if "\0" in first:
        raise UserError(f"{listed}: is no UTF-8 text, but perhaps UTF-16; save the list as UTF-8")
    fields = {mark: [field.strip().strip('"').strip() for field in first.split(mark)] for mark in _SEPARATORS}
    with_images = [mark for mark, names in fields.items() if any(_means(name) == "image" for name in names)]
    return max(with_images, key=lambda mark: len(fields[mark]), default=",")
