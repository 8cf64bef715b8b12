"""A run whose output nobody can take any more, in fresh processes: it goes on, says so once, and shows no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.config import APP_ROOT

ENDED = {
    "pipe": "set -o pipefail; {} 2>error | head -1",
    "full": "{} 2>error >/dev/full",
    "closed": "{} 2>error >&-",
    "all closed": "{} <&- 2>&- >&-",
}


@pytest.mark.parametrize("how", ENDED)
def test_a_run_goes_on_without_its_output(how: str, tmp_path: Path) -> None:
    words = "run configs/digits_lt.yaml --engine local rounds=2 sites=2 head-class-size=30 local-epochs=1 threads=1"
    program = f'"{sys.executable}" -c "from server_app.cli import main; main()" {words} output-dir=. run-name=a'
    environment = {**os.environ, "PYTHONPATH": str(APP_ROOT)}
    command = ["bash", "-c", ENDED[how].format(program)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=300)
    said = (tmp_path / "error").read_text(encoding="utf-8") if (tmp_path / "error").exists() else ""
    assert done.returncode == 0, said
    assert (tmp_path / "a" / "summary.json").exists() and (tmp_path / "a" / "lock").read_bytes() == b""
    assert "Traceback" not in said and "Logging error" not in said
    taken = {"pipe": "Broken pipe", "full": "No space left on device"}.get(how)
    lines = [line for line in said.splitlines() if "standard output takes no more lines" in line]
    assert [taken in line for line in lines] == ([True] if taken else []), said


def test_lines_of_another_process_go_nowhere_either(tmp_path: Path) -> None:
    """As `fednc run` passes on what Flower prints."""
    program = 'from common.logs import write_out; [write_out(f"{i}\\n") for i in range(100_000)]; open("end", "w")'
    command = f"set -o pipefail; \"{sys.executable}\" -c '{program}' | head -1"
    environment = {**os.environ, "PYTHONPATH": str(APP_ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout == "0\n" and (tmp_path / "end").exists()
    assert done.stderr == "standard output takes no more lines (Broken pipe): the work goes on without them\n"
