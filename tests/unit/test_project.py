"""The promises that the files at the top make."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from common.config import APP_ROOT

README = (APP_ROOT / "README.md").read_text(encoding="utf-8")
ROOMS = {"common": {"server_app", "client_app"}, "server_app": {"client_app"}, "client_app": {"server_app"}}
SOURCES = [path for room in ROOMS for path in (APP_ROOT / room).rglob("*.py")]


def test_every_file_that_the_readme_links_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert len(links) > 10
    assert [link for link in links if not (APP_ROOT / link).exists()] == []


def test_the_readme_names_every_experiment() -> None:
    assert [p.name for p in (APP_ROOT / "configs").glob("*.yaml") if f"configs/{p.name}" not in README] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(APP_ROOT).as_posix())
def test_rooms_keep_apart_and_files_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 320  # a hint at two subjects, no aim
    assert "torch.load(" not in text
    room = path.relative_to(APP_ROOT).parts[0]
    for node in ast.walk(ast.parse(text)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & (ROOMS[room] | {"pickle"}), names


def test_the_readme_is_finished() -> None:
    assert re.findall(r"@[A-Z]+@|TODO|TBD", README) == []


def test_flower_needs_no_settings_by_hand_in_the_installed_environment() -> None:
    """`make install` leaves a line that Python reads at start, so that plain `flwr run .` works."""
    if not Path(sysconfig.get_path("purelib"), "fednc_flower.pth").is_file():
        pytest.skip("this environment was not made by `make install`")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FLWR_")}
    program = "import os; print(os.environ['FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION'])"
    answer = subprocess.run([sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "1"


def test_the_readmes_result_tables_are_the_committed_ones() -> None:
    folders = [path.parent for path in (APP_ROOT / "tests" / "benchmarks" / "results").glob("*/results.md")]
    tables = {f.name: [p.read_text(encoding="utf-8") for p in f.glob("*.md")] for f in folders}
    assert [name for name, texts in tables.items() if not any(text in README for text in texts)] == []
