"""The charts of a page as files beside it, for a paper or a talk, and their data."""

import csv
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from common.files import private_folder, write_bytes
from common.markup import csv_text
from server_app.report.charts.canvas import Chart
from server_app.run.journal import log

FOLDER = "charts"
_DRAWN = ("svg", "pdf", "png")
_KINDS = (*_DRAWN, "csv")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_MISSING = re.compile(r"Glyph (\d+) .*missing from")


def write_charts(charts: Sequence[Chart], folder: Path) -> Path:
    """Write each chart as SVG, PDF, PNG and, its data, CSV into `folder`/charts, and return that.

    Files that an earlier page left there, of charts that this one does not have, are removed.

    Args:
        charts: of a page, which is written already.
        folder: where the page is.

    Raises:
        UserError: a file cannot be written; the page stays.
        ValueError: a chart's name is no file name, or two have the same.
    """
    names = [chart.name for chart in charts]
    if wrong := [name for name in names if not _NAME.fullmatch(name) or names.count(name) > 1]:
        raise ValueError(f"charts are named by small letters, digits and hyphens, each once a page: {wrong}")
    path = folder / FOLDER
    missing: set[str] = set()
    try:
        private_folder(path)
        _remove_others(path, names)
        for chart in charts:
            write_bytes(path / f"{chart.name}.csv", as_csv(chart).encode())
            for kind in _DRAWN:
                content, lacking = _drawn(chart, kind)
                write_bytes(path / f"{chart.name}.{kind}", content)
                missing |= lacking
    except OSError as error:
        raise UserError(
            f"{error.filename or path}: cannot be written ({error.strerror}); the page stays: "
            "make room, and the same command writes the charts"
        ) from None
    if missing:
        log.warning(
            "%s: no font of this machine has %s: PDF and PNG show boxes there; the page and the SVG have the reader's "
            "fonts", path, " ".join(sorted(missing)),
        )  # fmt: skip
    return path


def as_csv(chart: Chart) -> str:
    """Return a chart's data as comma-separated values: numbers plain, nothing where one is unknown."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_text, chart.columns))
    writer.writerows([_cell(value) for value in row] for row in chart.rows)
    return text.getvalue()


def _cell(value: str | float | None) -> str:
    if value is None or value != value:  # not a number: unknown, too
        return ""
    return csv_text(value) if isinstance(value, str) else f"{value:.9g}"


def _drawn(chart: Chart, kind: str) -> tuple[bytes, set[str]]:
    """Return a chart's file, and the letters that no font has which it is drawn in; SVG has text and no letters."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        content = chart.file(kind)
    if kind == "svg":
        return content, set()
    found = (_MISSING.search(str(warning.message)) for warning in said)
    return content, {chr(int(match[1])) for match in found if match}


def _remove_others(path: Path, names: Sequence[str]) -> None:
    """Remove charts, which have a file of each kind, but those of these names; other files are someone's own."""
    for file in list(path.glob("*.csv")):
        files = [file.with_suffix(f".{kind}") for kind in _KINDS]
        if file.stem not in names and all(each.exists() for each in files):
            for each in files:
                each.unlink()
