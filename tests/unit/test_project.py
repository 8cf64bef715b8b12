"""The promises that the files at the top make; test_documents.py has those of the documents."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from common.config import APP_ROOT

ROOMS = {"common": {"server_app", "client_app"}, "server_app": {"client_app"}, "client_app": {"server_app"}}
SOURCES = [path for room in ROOMS for path in (APP_ROOT / room).rglob("*.py")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(APP_ROOT).as_posix())
def test_rooms_keep_apart_and_files_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 320  # a hint at two subjects, no aim
    unpickled = re.findall(r"torch\.load\([^)]*\)", text)
    assert all("weights_only=True" in call for call in unpickled)  # tensors, and nothing else
    room = path.relative_to(APP_ROOT).parts[0]
    for node in ast.walk(ast.parse(text)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & (ROOMS[room] | {"pickle"}), names


def test_flower_needs_no_settings_by_hand_in_the_installed_environment() -> None:
    """`make install` leaves a line that Python reads at start, so that plain `flwr run .` works."""
    if not Path(sysconfig.get_path("purelib"), "fednc_flower.pth").is_file():
        pytest.skip("this environment was not made by `make install`")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FLWR_")}
    program = "import os; print(os.environ['FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION'])"
    answer = subprocess.run([sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "1"
