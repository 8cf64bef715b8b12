"""Finished runs that several tests look at: each is trained once, for the tests of all workers."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from common.config import Experiment
from server_app.engines.engines import run_local

Builder = Callable[..., Experiment]
Contents = dict[str, tuple[int, int]]


def session_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all workers of these tests share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


class TrainedRuns:
    """Runs of an experiment's builder with the in-process engine, for one test.

    Not for a run that is trained while something of ours is patched, nor for one whose log or messages a test looks
    at: another test may have trained it.

    Args:
        root: of the runs of all tests.
        builder: of experiments, by changes of keys; where it writes and the run's name decide nothing.
        own: where the test's own copies go.
        unpatched: raises where something is patched just now.
    """

    def __init__(self, root: Path, builder: Builder, own: Path, unpatched: Callable[[], None]) -> None:
        self._root, self._builder, self._own, self._unpatched = root, builder, own, unpatched
        self._before: dict[Path, Contents] = {}

    def __call__(self, **changes: Any) -> Path:
        """Return a finished run's folder, which nobody changes."""
        experiment = self._builder(**changes)
        values = {key: str(value) for key, value in experiment.dump().items() if key not in ("output-dir", "run-name")}
        name = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        folder, done = self._root / name / "run", self._root / name / "contents.json"
        self._root.mkdir(exist_ok=True)
        with FileLock(self._root / f"{name}.lock"):
            if not done.exists():
                self._unpatched()
                shutil.rmtree(folder.parent, ignore_errors=True)  # of a run that failed
                run_local(experiment.replace(output_dir=folder.parent, run_name=folder.name))
                done.write_text(json.dumps(contents_of(folder)))
        self._before[folder] = {path: (size, time) for path, (size, time) in json.loads(done.read_text()).items()}
        return folder

    def copy(self, **changes: Any) -> Path:
        """Return a copy of a finished run, where the test's own run of this name would be."""
        name = changes.get("run_name", "run")
        return Path(shutil.copytree(self(**changes), self._own / name))

    def check(self) -> None:
        """Fail where a run was changed: it is other tests' too."""
        for folder, before in self._before.items():
            now = contents_of(folder)
            changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
            assert not changed, f"a run that tests share was changed in {folder}: {', '.join(changed)}; take a copy"


def contents_of(folder: Path) -> Contents:
    """Return size and time of change of every file in a folder."""
    found = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}
