"""All that stays on a disk is made by `common/files.py`, which keeps it from others' eyes."""

import ast
from pathlib import Path

import pytest

from common.config import APP_ROOT

ROOMS = ("common", "client_app", "server_app")
SOURCES = [path.relative_to(APP_ROOT) for room in ROOMS for path in (APP_ROOT / room).rglob("*.py")]
# these write into a temporary folder, whose mode is 0700
TEMPORARY = {"server_app/engines/engines.py", "server_app/engines/deployed_run.py", "server_app/provision/flower.py"}
MAKERS = {"mkdir", "makedirs", "touch", "write_text", "write_bytes", "savez", "save_file"}


def made_elsewhere(tree: ast.AST) -> list[str]:
    """Return the lines that make a file or a folder by themselves."""
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if not isinstance(call.func, ast.Attribute):
            name, of_files = call.func.id if isinstance(call.func, ast.Name) else "", True  # imported from there
        else:
            name, of_files = call.func.attr, isinstance(call.func.value, ast.Name) and call.func.value.id == "files"
        modes = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
        stream = bool(modes) and isinstance(modes[0], int)  # a descriptor that is open already
        opened = (
            name == "open"
            and not stream
            and any(isinstance(m, str) and set(m) & set("wax") and len(m) < 4 for m in modes)
        )
        if opened or (name in MAKERS and not of_files):
            found.append(f"line {call.lineno}: {ast.unparse(call)[:80]}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_files_and_folders_are_made_by_common_files(path: Path) -> None:
    if path.as_posix() in TEMPORARY | {"common/files.py"}:
        return
    tree = ast.parse((APP_ROOT / path).read_text(encoding="utf-8"))
    assert made_elsewhere(tree) == [], "use private_folder, private_file, write_text, write_bytes or save_arrays"


def test_the_rule_finds_what_it_is_for() -> None:
    lines = ("p.mkdir()", "p.write_text('')", "p.open('w')", "open(p, mode='ab')", "np.savez(p)", "(a / b).touch()")
    assert all(made_elsewhere(ast.parse(line)) for line in lines)
    assert not made_elsewhere(ast.parse("write_text(p, ''); files.write_bytes(p, b''); p.open(); p.open('rb'); w('x')"))
