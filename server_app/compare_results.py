"""What a comparison leaves: `results.md`, `results.csv` and the page `results.html`, from its finished runs."""

from collections.abc import Sequence
from pathlib import Path

from common.config import build
from common.errors import UserError
from common.methods import METHODS
from server_app.compare import Cell, read_result
from server_app.compare_page import comparison_page
from server_app.compare_tables import Entry, as_csv, as_markdown, read_entries, rows_of


def write_results(cells: Sequence[Cell], folder: Path) -> str:
    """Write the table in three forms and return the Markdown; without a finished run, say so and write nothing.

    The table also has what other commands left in the folder: the same experiment, other methods or seeds.

    Raises:
        UserError: a file cannot be written.
    """
    entries = read_entries(with_kept(cells, folder), folder)
    rows = list(rows_of(entries))
    if not rows:
        return "no finished runs\n"
    markdown = as_markdown(rows)
    if note := _versions(entries):
        markdown += f"\n{note}\n"
    files = {"results.md": markdown, "results.csv": as_csv(entries), "results.html": comparison_page(entries, rows)}
    for name, text in files.items():
        try:
            (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{folder / name}: cannot be written ({error.strerror}); the runs' files stay") from None
    return markdown


def with_kept(cells: Sequence[Cell], folder: Path) -> list[Cell]:
    """Return the cells in the order of the table of methods, with those beside them whose results are kept."""
    if not cells or any(cell.variant for cell in cells):
        return list(cells)
    known = {cell.stem: cell for cell in cells}
    values = cells[0].experiment.dump()
    for path in folder.glob("*-seed*.json"):
        method, _, seed = path.stem.rpartition("-seed")
        if method in METHODS and seed.isdecimal() and path.stem not in known:
            cell = Cell(build(values | {"method": method, "seed": int(seed)}))
            if read_result(folder, cell):
                known[path.stem] = cell
    order = list(METHODS)
    return sorted(known.values(), key=lambda cell: (order.index(cell.experiment.method), cell.experiment.seed))


def _versions(entries: Sequence[Entry]) -> str:
    """Say where the runs are not all of one code."""
    codes = {result.get("versions", {}).get("code") for entry in entries for result in entry.found}
    if len(codes) < 2:
        return ""
    return f"The runs were made by {len(codes)} states of the code; each file names its own (`versions`)."
