"""What a comparison leaves: `results.md`, `results.csv` and the page `results.html`, from its finished runs."""

from collections.abc import Sequence
from pathlib import Path

from server_app.compare import Cell
from server_app.compare_page import comparison_page
from server_app.compare_tables import as_csv, as_markdown, read_entries, rows_of


def write_results(cells: Sequence[Cell], folder: Path) -> str:
    """Write the table in three forms and return the Markdown; without a finished run, say so and write nothing."""
    entries = read_entries(cells, folder)
    rows = list(rows_of(entries))
    if not rows:
        return "no finished runs\n"
    markdown = as_markdown(rows)
    files = {"results.md": markdown, "results.csv": as_csv(rows), "results.html": comparison_page(entries, rows)}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return markdown
