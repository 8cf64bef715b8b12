"""Other packages named `common`, `client_app` or `server_app`: one line says which, where, and what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cold import PROGRAMS, QUICK, Answer, main_of, start

from common.config import APP_ROOT
from common.own_packages import hidden_by_us


def package(folder: Path, name: str, text: str = "") -> Path:
    """Make a package and return the folder that it lies in."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text)
    return folder


def python(program: str, *path: Path, folder: Path) -> Answer:
    """Run a program with these folders first in Python's search path."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Answer(done.returncode, done.stdout, done.stderr, 0)


def check_one_line(answer: Answer, *words: str) -> None:
    """One line of error that says all of this, and no traceback."""
    assert answer.code == 1 and not answer.out, answer
    (line,) = answer.error.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words), line


@pytest.mark.parametrize("text", ["", "raise RuntimeError('it is not to be run')"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_anothers_common_is_named_in_one_line(name: str, text: str, tmp_path: Path) -> None:
    other = package(tmp_path / "other", "common", text)
    both = {"PYTHONPATH": f"{other}{os.pathsep}{APP_ROOT}"}
    for answer in (
        start(name, "--help", folder=tmp_path, environment=both),
        python(main_of(name), other, APP_ROOT, folder=tmp_path),
        python(main_of(name), APP_ROOT, folder=other),  # -c looks into the working folder first
    ):
        check_one_line(answer, f"{other}/common hides FedNC's package common in {APP_ROOT}", "PYTHONPATH")


def test_a_module_hides_ours_and_a_folder_without_code_does_not(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    assert python("import server_app, client_app", APP_ROOT, folder=tmp_path).code == 0
    (tmp_path / "common.py").write_text("")
    check_one_line(python("import server_app", APP_ROOT, folder=tmp_path), f"{tmp_path}/common.py hides")


def test_who_imports_catches_an_import_error_and_later_errors_look_as_ever(tmp_path: Path) -> None:
    program = "try:\n import client_app\nexcept ImportError as error:\n print(error)\nprint(1 / 0)"
    answer = python(program, package(tmp_path, "common"), APP_ROOT, folder=APP_ROOT.parent)
    assert answer.out.startswith(f"{tmp_path}/common hides") and "Traceback" in answer.error
    assert answer.last.startswith("ZeroDivisionError")


def test_another_distribution_that_overwrote_ours_is_named(tmp_path: Path) -> None:
    for name in ("common", "server_app", "client_app"):
        shutil.copytree(APP_ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "common" / "__init__.py").write_text("VERSION = 3\n")
    check_one_line(python("import server_app", tmp_path, folder=APP_ROOT.parent), f"{tmp_path}/common was overwritten")
    (tmp_path / "common" / "__init__.py").unlink()
    check_one_line(python("import server_app", tmp_path, folder=APP_ROOT.parent), "is missing: install FedNC again")


def test_ours_under_another_name_of_its_folder_is_ours(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(APP_ROOT)
    program = f"import sys, common; sys.path.insert(0, {str(tmp_path / 'link')!r}); import server_app; print('fine')"
    assert python(program, APP_ROOT, folder=tmp_path).last == "fine"


def test_another_client_app_is_named_before_it_runs(tmp_path: Path) -> None:
    other = package(tmp_path / "other", "client_app", "raise RuntimeError('it is not to be run')")
    program = main_of("fednc").replace("main()", "sys.argv[1:] = sys.argv[1:] or WORDS; main()")
    words = ["run", "configs/digits_lt.yaml", "--engine", "local", *QUICK]
    answer = python(program.replace("WORDS", repr(words)), other, APP_ROOT, folder=tmp_path)
    check_one_line(answer, f"{other}/client_app hides FedNC's package client_app")


def test_what_ours_hide_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, ours, other = (package(tmp_path / name, "common") for name in ("before", "ours", "other"))
    (ours / "pyproject.toml").touch()  # a checkout: no distribution has files in it
    (other / "server_app.py").touch()
    monkeypatch.setattr(sys, "path", [str(place) for place in (before, ours, other)])
    found = hidden_by_us(ours)
    assert [line.split(": ")[0] for line in found] == [
        f"FedNC's package common in {ours} hides {other}/common",
        f"FedNC's package server_app in {ours} hides {other}/server_app.py",
    ]
    package(other, "client_app"), package(other, "server_app")  # all three: another copy of FedNC
    assert hidden_by_us(ours) == []
