"""What a comparison leaves: `headline.md`, `results.md`, `results.csv`, the page `results.html` and its charts."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from common.data import build_federation
from common.errors import UserError
from common.files import private_folder, write_text
from common.methods import METHODS
from server_app.compare.cells import Cell, find_result, read_result, stem_of
from server_app.compare.page import comparison_page
from server_app.compare.tables import Entry, as_csv, as_markdown, further_rows, headline_rows, read_entries, rows_of
from server_app.report.charts.files import FOLDER, write_charts
from server_app.run.journal import log, percent

_TABLES = ("headline.md", "results.md", "results.csv", "results.html", FOLDER)
_SHOWN = "tables.txt"  # the results that the tables show, a line each


def write_results(cells: Sequence[Cell], folder: Path, cell_of: Callable[[str, int], Cell] | None = None) -> str:
    """Write the tables, the page and its charts, and return the Markdown.

    Without a finished run, say so and write nothing.

    `headline.md` has the most important metrics, `results.md` each head's and all others, the other two all of them.

    Args:
        cells: the command's.
        folder: of the results.
        cell_of: the cell of a method and a seed; then the table also has what other commands left in the folder: the
            same experiment, other methods or seeds.

    Raises:
        UserError: a file cannot be written.
    """
    entries = read_entries(with_saved_results(cells, folder, cell_of) if cell_of else cells, folder)
    rows = list(rows_of(entries))
    if not rows:
        return "no finished runs\n"
    markdown = as_markdown(rows)
    if further := list(further_rows(entries)):
        markdown += "\n" + as_markdown(further)
    for note in (_partition(entries) if further else "", _versions(entries)):
        markdown += f"\n{note}\n" if note else ""
    _keep_other_tables(folder, [path.name for entry in entries for path in _files(entry, folder)])
    page, short = comparison_page(entries, rows), as_markdown(list(headline_rows(rows)))
    files = {
        "headline.md": short,
        "results.md": markdown,
        "results.csv": as_csv(entries),
        "results.html": page.html(),
        _SHOWN: "".join(f"{path.name}\n" for entry in entries for path in _files(entry, folder)),
    }
    for name, text in files.items():
        try:
            write_text(folder / name, text)
        except OSError as error:
            raise UserError(f"{folder / name}: cannot be written ({error.strerror}); the runs' files stay") from None
    write_charts(page.charts(), folder)
    return markdown


def with_saved_results(cells: Sequence[Cell], folder: Path, cell_of: Callable[[str, int], Cell]) -> list[Cell]:
    """Return the cells in the order of the table of methods, with those beside them whose results are kept."""
    known = {cell.stem: cell for cell in cells}
    for path in folder.glob("*-seed*.json"):
        method, _, seed = (stem := stem_of(path)).rpartition("-seed")
        if method in METHODS and seed.isdecimal() and stem not in known:
            cell = cell_of(method, int(seed))
            if read_result(folder, cell):
                known[stem] = cell
    order = list(METHODS)
    return sorted(known.values(), key=lambda cell: (order.index(cell.experiment.method), cell.experiment.run.seed))


def _files(entry: Entry, folder: Path) -> list[Path]:
    """Return the results that an entry of the tables is made of."""
    return [path for cell in entry.cells if (path := find_result(folder, cell))]


def _keep_other_tables(folder: Path, shown: Sequence[str]) -> None:
    """Move tables that show more than the new ones into `tables/`: they are of another configuration or study."""
    tables = [path for name in _TABLES if (path := folder / name).exists()]
    if not tables:
        return
    listed = folder / _SHOWN  # of older versions there is none, nor results of two configurations
    plain = [path.name for path in folder.glob("*-seed*.json") if stem_of(path) == path.stem]
    before = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else plain
    if set(before) <= set(shown):
        return
    kept = folder / "tables" / hashlib.sha256("\n".join(sorted(before)).encode()).hexdigest()[:8]
    try:
        private_folder(kept)
        shutil.rmtree(kept / FOLDER, ignore_errors=True)  # of the same runs; a folder takes no full one's place
        for path in (*tables, *([listed] if listed.exists() else [])):
            path.replace(kept / path.name)
    except OSError as error:
        raise UserError(f"{kept}: cannot be written ({error.strerror}); the runs' files stay") from None
    log.info("the tables that were here show other runs, too: moved to %s", kept)


def _partition(entries: Sequence[Entry]) -> str:
    """Say how images of several labels were dealt, by seed; the same for all methods, since the seed decides."""
    base = entries[0].cells[0].experiment  # a study's variant may have other sites
    parts = []
    for seed in dict.fromkeys(cell.experiment.run.seed for cell in entries[0].cells):
        dealt = build_federation(base.replace(seed=seed)).partition_report
        if dealt is not None:
            shares = (percent(dealt[key]) for key in ("missing", "dropped", "hidden"))
            parts.append("seed {}: {}, {}, {}".format(seed, *shares))
    if not parts:
        return ""
    return f"Classes missing at a site (mean), images dropped, labels hidden: {'; '.join(parts)}."


def _versions(entries: Sequence[Entry]) -> str:
    """Say where the runs are not all of one code."""
    codes = {result.get("versions", {}).get("code") for entry in entries for result in entry.found}
    if len(codes) < 2:
        return ""
    return f"The runs were made by {len(codes)} states of the code; each file names its own (`versions`)."
