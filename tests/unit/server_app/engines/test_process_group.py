"""Processes that a command has started end with it, also those that no parent and no session leads to."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from waiting import wait_until

from common.errors import UserError
from server_app.engines import flower_run
from server_app.engines.flower_run import superlink
from server_app.engines.process_group import process_group
from server_app.engines.watcher import MARKS, lives, marked

# a process whose parent ends at once, in a session of its own; it ignores SIGTERM, and writes its number
ORPHAN = """
import os, signal, subprocess, sys, time
if len(sys.argv) == 2:
    subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[1], "orphan"], start_new_session=True)
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open("orphan.part", "w").write(str(os.getpid()))
    os.rename("orphan.part", "orphan")
    time.sleep(900)
"""


def start_orphan(folder: Path, environment: dict[str, str]) -> psutil.Process:
    subprocess.run([sys.executable, "-c", ORPHAN, ORPHAN], cwd=folder, env=environment, check=True)
    return written(folder / "orphan")


def written(path: Path, seconds: float = 30) -> psutil.Process:
    """Return the process whose number is written there."""
    wait_until(path.exists, seconds, f"a process writes its number to {path}")
    return psutil.Process(int(path.read_text()))


def test_an_orphan_in_a_session_of_its_own_ends_with_the_block(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), process_group() as environment:
        orphan = start_orphan(tmp_path, environment)
        plain = {name: value for name, value in environment.items() if name != MARKS}
        unmarked = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"], env=plain)
        assert lives(orphan) and orphan.ppid() != os.getpid()
        raise ZeroDivisionError
    assert not lives(orphan)
    assert unmarked.poll() is None  # another's process
    unmarked.kill()
    unmarked.wait()


def test_a_child_that_hides_its_environment_is_found_below_its_parent(tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1]], env={}); time.sleep(900)"
    )
    child = "import os, time; open('p', 'w').write(str(os.getpid())); os.rename('p', 'pid'); time.sleep(900)"
    with process_group() as environment:
        started = subprocess.Popen([sys.executable, "-c", parent, child], cwd=tmp_path, env=environment)
        hidden = written(tmp_path / "pid")
        assert lives(hidden)
    assert not lives(hidden)
    started.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_where_the_command_itself_is_killed_its_processes_end_too(tmp_path: Path, how: signal.Signals) -> None:
    """Those of a command below it as well: a family within a family."""
    program = (
        "import subprocess, sys, time; from server_app.engines.process_group import process_group\n"
        "with process_group() as one:\n"
        "    subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[1]], env=one, check=True)\n"
        "    time.sleep(900)\n"
    )
    with process_group() as outer:
        mark = outer[MARKS].split()[-1]
        command = subprocess.Popen([sys.executable, "-c", program, ORPHAN], cwd=tmp_path, env=outer | paths())
        orphan = written(tmp_path / "orphan")
        assert orphan in marked(mark)
        command.send_signal(how)  # the default: it ends at once
        command.wait()
        wait_until(lambda: marked(mark) == set(), 30, lambda: str(marked(mark)))
        assert not lives(orphan)


def paths() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_superlink_that_dies_at_its_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = ORPHAN.replace("len(sys.argv) == 2", "'orphan' not in sys.argv") + "\nsys.exit('no port')"
    monkeypatch.setattr(flower_run, "tool", lambda name: [sys.executable, "-c", program, program])
    with pytest.raises(UserError, match="SuperLink did not start: no port"), superlink(tmp_path):
        pytest.fail("it has not started")
    with suppress(FileNotFoundError, psutil.NoSuchProcess):  # it may not have come to write its number
        assert not lives(psutil.Process(int((tmp_path / "orphan").read_text())))
