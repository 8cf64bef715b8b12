"""One run that a process of its own has made, for the commands that take a finished run."""

import os
import shutil
from pathlib import Path

import pytest
from cold import QUICK, Answer, start
from filelock import FileLock


def make_pilot(home: Path) -> Answer:
    """Run what the documents' `run-name=pilot` does, at `home`, on little data."""
    words = ("fednc", "run", "configs/digits_lt.yaml", "run-name=pilot", "resume=true", *QUICK)
    return start(*words, "--engine", "local", folder=home, environment={"HOME": str(home)})


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home folder with a finished run in `fednc-runs/pilot`, made once for all workers; nobody changes it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all workers
    home = base / "finished"
    with FileLock(base / "finished.lock"):
        if not home.is_dir():
            part = base / "finished.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            answer = make_pilot(part)
            assert answer.code == 0, answer.error
            assert answer.last == f"report: {part}/fednc-runs/pilot/report.html"
            part.rename(home)
    return home


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    """Return a user's home folder of one's own with a finished run in `fednc-runs/pilot`."""
    folder = tmp_path / "home"
    shutil.copytree(finished, folder)
    return folder
