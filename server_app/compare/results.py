"""What a comparison shows of its runs: `headline.md`, `results.md`, `results.csv`, the page `results.html`, charts."""

import csv
import hashlib
import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from common.data import build_federation
from common.errors import UserError
from common.files import private_folder, write_text
from common.methods import METHODS
from server_app.compare.cells import Cell
from server_app.compare.page import comparison_page
from server_app.compare.store import Store
from server_app.compare.tables import Entry, as_csv, as_markdown, further_rows, headline_rows, read_entries, rows_of
from server_app.report.charts.files import FOLDER, write_charts
from server_app.run.journal import log, percent

# the last one says which runs all of them show
_TABLES = ("headline.md", "results.md", "results.html", "results.csv")


def write_results(cells: Sequence[Cell], folder: Path, cell_of: Callable[[str, int], Cell] | None = None) -> str:
    """Write the tables, the page and its charts, and return the Markdown.

    Without a finished run, say so and write nothing.

    `headline.md` has the most important metrics, `results.md` each head's and all others, over seeds; `results.csv` has
    each run's, and the page all of it.

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
    short, table, page = as_markdown(list(headline_rows(rows))), as_csv(entries), comparison_page(entries, rows)
    _keep_other_tables(folder, table)
    for name, text in zip(_TABLES, (short, markdown, page.html(), table), strict=True):
        try:
            write_text(folder / name, text)
        except OSError as error:
            raise UserError(f"{folder / name}: cannot be written ({error.strerror}); the results stay") from None
    write_charts(page.charts(), folder)
    return markdown


def with_saved_results(cells: Sequence[Cell], folder: Path, cell_of: Callable[[str, int], Cell]) -> list[Cell]:
    """Return the cells in the order of the table of methods, with those beside them whose results are kept."""
    known, store = {cell.stem: cell for cell in cells}, Store(folder)
    for run in store.runs:
        if run.method in METHODS and not run.variant and run.stem not in known:
            cell = cell_of(run.method, run.seed)
            if store.find(cell):
                known[run.stem] = cell
    order = list(METHODS)
    return sorted(known.values(), key=lambda cell: (order.index(cell.experiment.method), cell.experiment.run.seed))


def _keep_other_tables(folder: Path, new: str) -> None:
    """Move tables into `tables/` where they show runs that a new results.csv does not: those of another command."""
    of_older_versions = "tables.txt"
    tables = [path for name in (*_TABLES, FOLDER, of_older_versions) if (path := folder / name).exists()]
    listed = folder / _TABLES[-1]
    before = listed.read_text(encoding="utf-8") if listed.exists() else ""
    if not tables or (before and _runs_in(before) <= _runs_in(new)):
        return
    kept = folder / "tables" / hashlib.sha256(before.encode()).hexdigest()[:8]
    try:
        private_folder(kept)
        shutil.rmtree(kept / FOLDER, ignore_errors=True)  # of the same runs; a folder takes no full one's place
        for path in tables:
            path.replace(kept / path.name)
    except OSError as error:
        raise UserError(f"{kept}: cannot be written ({error.strerror}); the results stay") from None
    log.info("the tables that were here show other runs, too, or are of an older version: moved to %s", kept)


def _runs_in(table: str) -> set[tuple[str | None, str | None]]:
    """Return the runs that a results.csv shows; of older versions, which had a line over all seeds, it names none."""
    return {(row.get("run"), row.get("config")) for row in csv.DictReader(io.StringIO(table))}


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
    return f"The runs were made by {len(codes)} states of the code; each line of `runs.jsonl` names its own."
