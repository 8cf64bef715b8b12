"""Both commands in fresh processes whose output can show ASCII alone: words, and no failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from common.config import APP_ROOT

ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


def run(room: str, *words: str, encoding: str = "ascii", code: int = 0) -> str:
    """Return all output of a command in a fresh process."""
    program = f"from {room}.cli import main; main()"
    environment = {**os.environ, **ASCII, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(APP_ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=300,
    )
    output = done.stdout.decode(encoding)  # strict
    assert done.returncode == code, output
    assert "UnicodeEncodeError" not in output and "?" not in output.replace("did you mean", ""), output
    return output


def test_a_run_and_a_comparison_speak_in_words(tmp_path: Path) -> None:
    quick = [
        "configs/digits_lt.yaml",
        "rounds=1",
        "local-epochs=1",
        "sites=2",
        "head-class-size=30",
        f"output-dir={tmp_path}",
    ]
    output = run("server_app", "run", *quick, "run-name=a", "--engine", "local")
    assert "loss theta" in output and "generic, psi realigned" in output and "+/-" in output and " deg^2" in output
    output = run(
        "server_app", "compare", *quick, "--methods", "fedloge", "--seeds", "0", "--output", str(tmp_path / "c")
    )
    assert "psi realigned *" in output
    assert "ψ realigned" in (tmp_path / "c" / "results.md").read_text(encoding="utf-8")  # a file can hold any letter


@pytest.mark.parametrize(("encoding", "size"), [("ascii", "30 of 9x8"), ("latin-1", "30 of 9×8")])
def test_a_sites_tables_and_errors_speak_in_words(encoding: str, size: str, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(15):
            Image.effect_noise((9, 8), 50 + i).save(tmp_path / "data" / label / f"{i}.png")
    site = tmp_path / "site.yaml"
    site.write_text("name: west\ndata: data\n", encoding="utf-8")
    assert size in run("client_app", "check", str(site), encoding=encoding)
    site.write_text("name: θψ—\ndata: 中\n", encoding="utf-8")
    output = run("client_app", "check", str(site), encoding=encoding, code=1)
    assert "name = 'thetapsi-'" in output and "\\u4e2d" in output
