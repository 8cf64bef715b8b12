"""The two commands as a user starts them: each time in a process of its own, in a folder that is no checkout."""

import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.config import APP_ROOT

PROGRAMS = {"fednc": "server_app.cli", "fednc-site": "client_app.cli"}
SECONDS = 300  # after which a command is taken to hang
QUICK = ("rounds=2", "sites=2", "head-class-size=30", "local-epochs=1")  # for an experiment on digits


@dataclass(frozen=True)
class Answer:
    """What a command left.

    Attributes:
        code: its exit code.
        out: its standard output.
        error: its standard error.
        cpu: seconds of processor time, of the processes that it started too.
    """

    code: int
    out: str
    error: str
    cpu: float

    @property
    def last(self) -> str:
        """The last line that is not empty, of the output, or of the errors where the command failed."""
        lines = (self.error if self.code else self.out).strip().splitlines()
        return lines[-1].strip() if lines else ""


def start(*words: str, folder: Path, environment: Mapping[str, str] | None = None) -> Answer:
    """Run `fednc …` or `fednc-site …` to its end in a new process.

    Args:
        words: the command's, its name first.
        folder: where the user is.
        environment: what is beside the variables of this process.
    """
    name, *others = words
    script = Path(sys.executable).parent / name  # as pip installed it
    program = [str(script)] if script.exists() else [sys.executable, "-c", main_of(name)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*program, *others],
        cwd=folder,
        env=variables() | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Answer(done.returncode, done.stdout, done.stderr, cpu)


def main_of(name: str) -> str:
    """Return the program of a command in Python."""
    return f"import sys; from {PROGRAMS[name]} import main; sys.argv[0] = {name!r}; main()"


def variables() -> dict[str, str]:
    """Return the environment of a command: this process's, its packages, a plain terminal of 80 columns."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FEDNC_", "PYTEST_"))}
    return kept | {"PYTHONPATH": str(APP_ROOT), "COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}
