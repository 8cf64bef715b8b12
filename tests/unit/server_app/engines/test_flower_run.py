"""What of `flwr run --stream` is shown, and who can read what Flower writes."""

import os
import stat
import sys
from pathlib import Path

import pytest

from server_app.engines.flower_run import stream, superlink

LINES = (
    "Successfully started run 42",
    "\x1b[92mINFO [0m:      Starting FedStrategy strategy:",
    "\x1b[36m(ClientAppActor pid=23757)\x1b[0m \x1b[93mWARNING \x1b[0m:   Manually terminating ClientAppActor",
    "(ClientAppActor pid=7, ip=10.0.0.2) WARNING : Manually terminating",
    "round 1/2 | 3 of 3 sites",
    "error: INFO about a file",
    "   personal, realigned               98.9 %",
)


def test_lines_of_flower_and_of_rays_workers_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", f"print({chr(10).join(LINES)!r})"]
    assert stream(command, dict(os.environ), ".") == "42"
    assert capsys.readouterr().out.splitlines() == list(LINES[-3:])


def test_flowers_database_and_log_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with superlink(tmp_path):
            found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
            child = next(int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal() and is_of(p, tmp_path))
            masked = Path(f"/proc/{child}/status").read_text()
    finally:
        os.umask(before)
    assert {"superlink.log", "config.toml"} <= found.keys()
    assert [name for name, mode in found.items() if mode & 0o077] == []
    assert "Umask:\t0077" in masked  # of all that it starts, Ray too


def is_of(process: Path, folder: Path) -> bool:
    """Whether a process, other than this one, works in the folder."""
    try:
        return (process / "cwd").readlink() == folder and int(process.name) != os.getpid()
    except OSError:
        return False
