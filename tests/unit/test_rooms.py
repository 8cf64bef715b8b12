"""The rooms and the arrows between them: who may import whom. CONTRIBUTING.md has the picture."""

import ast
import re
from collections import defaultdict
from functools import cache

import pytest

from common.config import APP_ROOT

PACKAGES = ("common", "client_app", "server_app")

# a room, and the rooms of its own package that it imports; beside them, an app may import all of `common`
ROOMS = {
    "common": "",
    "common/losses": "",
    "common/closed_form": "common",
    "common/methods": "common",
    "common/config/sections": "common common/methods",
    "common/config": "common common/methods common/config/sections",
    "common/precision.py": "common common/config",
    "common/rates.py": "common common/config common/methods",
    "common/head_start.py": "common/config common/methods",
    "common/wire.py": "common common/config common/methods common/precision.py common/head_start.py",
    "common/hello.py": "common common/wire.py",
    "common/data/images": "common common/config",
    "common/data/sources": "common common/config common/config/sections common/data/images",
    "common/data/federation": "common common/config common/methods common/data/images common/data/sources",
    "common/data": "common/data/images common/data/sources common/data/federation",
    "common/start": "",
    "common/models": "common common/config common/config/sections common/methods common/data common/data/images",
    "client_app": "",
    "client_app/methods": "",
    "client_app/site": "methods",
    "client_app/training": "methods site",
    "client_app/app.py": "methods site training",
    "client_app/preflight": "methods site training",
    "client_app/clinic": "",
    "client_app/cli.py": "site preflight clinic",
    "client_app/api.py": "clinic",
    "server_app": "",
    "server_app/run": "",
    "server_app/checks": "",
    "server_app/frames": "",
    "server_app/report/charts": "run",
    "server_app/report": "run report/charts",
    "server_app/sites": "run",
    "server_app/grids": "run",
    "server_app/generic": "run report",
    "server_app/aggregation": "sites",
    "server_app/methods": "run aggregation",
    "server_app/rounds": "run sites generic aggregation methods",
    "server_app/app.py": "run checks frames report sites grids generic aggregation methods rounds",
    "server_app/withdraw.py": "run checks generic methods rounds app.py",
    "server_app/engines": "run grids app.py",
    "server_app/compare": "run checks report report/charts generic engines",
    "server_app/new": "checks",
    "server_app/provision": "engines",
    "server_app/api.py": "run checks engines compare",
    "server_app/cli.py": "run checks report generic engines withdraw.py compare new provision",
}


def _allowed(room: str) -> set[str]:
    package = room.split("/")[0]
    return {name if name.startswith(package) else f"{package}/{name}" for name in ROOMS[room].split()}


def _room(module: str) -> str:
    """Return the innermost room that a dotted name lies in: a folder, or a file that is a room of its own."""
    parts = module.split(".")
    depth = max((n for n in range(1, len(parts) + 1) if APP_ROOT.joinpath(*parts[:n]).is_dir()), default=0)
    file = "/".join(parts[: depth + 1]) + ".py"
    return file if file in ROOMS else "/".join(parts[:depth])


@cache
def arrows() -> dict[str, dict[str, set[str]]]:
    """Return room → room → the modules that import across, of all of the three packages."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted(p for package in PACKAGES for p in (APP_ROOT / package).rglob("*.py")):
        module = ".".join(path.relative_to(APP_ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[_room(module)]  # a room without an arrow is one, too
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [f"{node.module}.{a.name}" for a in node.names] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.split(".")[0] in PACKAGES and (there := _room(name)) != _room(module):
                    found[_room(module)][there].add(f"{module} imports {name}")
    return found


def test_every_room_is_named() -> None:
    assert sorted(arrows()) == sorted(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_row_says_and_no_more(room: str) -> None:
    package = room.split("/")[0]
    across = {there: who for there, who in arrows()[room].items() if package == "common" or there[:6] != "common"}
    assert {there: sorted(who) for there, who in across.items() if there not in _allowed(room)} == {}
    assert _allowed(room) - set(across) == set(), "an arrow that nothing needs"


def test_there_is_no_cycle() -> None:
    left = {room: _allowed(room) for room in ROOMS}
    while free := [room for room, needs in left.items() if not needs & left.keys()]:
        for room in free:
            del left[room]
    assert left == {}


def test_the_picture_shows_each_room_above_those_that_it_imports() -> None:
    """CONTRIBUTING.md's picture: two packages side by side, `common` below a line."""
    picture = (APP_ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[1]
    apps, below = re.split(r"─+\n", picture)
    column = apps.index("client_app") - apps.index("server_app")
    levels: dict[str, int] = {}
    blocks = {
        "server_app": [line[:column] for line in apps.strip().splitlines()],
        "client_app": [line[column:] for line in apps.strip().splitlines()],
        "common": below.strip().splitlines(),
    }
    for package, lines in blocks.items():
        for level, line in enumerate(lines[1:]):
            for name in line.split():
                levels[package if name == "*" else f"{package}/{name}"] = level
    assert sorted(levels) == sorted(set(ROOMS) - {"server_app", "client_app"})
    arrows_up = [(room, there) for room in levels for there in _allowed(room) if levels[there] <= levels[room]]
    assert arrows_up == []
