"""What of `flwr run --stream` is shown."""

import os
import sys

import pytest

from server_app.flower_run import stream

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
