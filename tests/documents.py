"""The project's documents, for tests that read them."""

import re
from pathlib import Path

from common.config import APP_ROOT

ROOMS = ("common", "server_app", "client_app", "configs", "docker", "tests")
DOCUMENTS = sorted(
    path
    for path in (*APP_ROOT.glob("*.md"), *(path for room in ROOMS for path in (APP_ROOT / room).rglob("*.md")))
    if not {"notes", "runs"} & {*path.parts}
    and path.name not in ("results.md", "headline.md")  # parts of the page of results
)


def name_of(path: Path) -> str:
    """Return a document's path in the project."""
    return path.relative_to(APP_ROOT).as_posix()


def text_of(path: Path | str) -> str:
    """Return what a document says."""
    return (APP_ROOT / path).read_text(encoding="utf-8")


def shell_lines(path: Path) -> list[str]:
    """Return the lines of a document's shell blocks and those that begin with $: joined where they go on."""
    text = text_of(path).replace("\\\n", " ")
    blocks = re.findall(r"```(?:sh|bash|shell|console)\n(.*?)```", text, re.DOTALL)
    typed = [line.strip()[2:] for line in text.splitlines() if line.strip().startswith("$ ")]
    return [line for block in blocks for line in block.splitlines()] + typed
