"""A signal to a command, or its death, leaves none of its processes; its last line is the command that goes on."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import yaml
from waiting import wait_until

from common.config import APP_ROOT, Experiment
from server_app.cli import main
from server_app.engines.watcher import lives
from server_app.run.disk import locked

pytest.importorskip("ray", reason="Flower's simulation needs ray")

Tiny = Callable[..., Experiment]
FEDNC = [sys.executable, "-c", "from server_app.cli import main; main()"]
MARK = "FEDNC_TEST"


class Command:
    """A command in a process of its own, and all that it has started.

    Args:
        words: what follows `fednc`.
        folder: where its output goes.
        ignored: signals that it is started with as ignored.
    """

    def __init__(self, words: list[str], folder: Path, ignored: Sequence[signal.Signals]) -> None:
        def handle() -> None:
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

        self._mark, self._log = folder.name, folder / "output.txt"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*FEDNC, *words], cwd=APP_ROOT, stdout=log, stderr=subprocess.STDOUT,
                env=os.environ | {MARK: self._mark}, start_new_session=True,
                preexec_fn=handle,
            )  # fmt: skip
        self.seen: set[psutil.Process] = set()

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_until(self, there: Callable[[], object], seconds: float = 600) -> None:
        def running_and_there() -> object:
            assert self.process.poll() is None, self.output
            return there()

        wait_until(running_and_there, seconds, lambda: self.output)

    def signal(self, *numbers: int) -> None:
        """Note what it has started, and send signals to this process alone."""
        self.left()
        for place, number in enumerate(numbers):
            time.sleep(0.2 if place else 0)  # as long as a person takes to press the keys again
            self.process.send_signal(number)

    def left(self) -> list[str]:
        """Return the names of what is alive of it, this process aside."""
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark:
                    self.seen |= {process, *process.children(recursive=True)}
            except psutil.Error:
                continue
        self.seen = {p for p in self.seen if p.pid != self.process.pid and lives(p)}
        return [str(process) for process in self.seen]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def run(*words: str, ignored: Sequence[signal.Signals] = ()) -> Command:
        started.append(Command(list(words), tmp_path, ignored))
        return started[-1]

    yield run
    for command in started:
        command.process.kill()
        command.process.wait()
        command.left()
        for process in command.seen:
            process.kill()


def write_config(experiment: Experiment, path: Path) -> str:
    path.write_text(yaml.safe_dump({k: v for k, v in experiment.dump().items() if v is not None}))
    return str(path)


@pytest.fixture
def continues(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what runs the command of the last line to its end, in this process, and gives what it said."""

    def run(output: str, *more: str) -> str:
        line = output.splitlines()[-1]
        assert re.match(r"to continue after round \d+: fednc run ", line), output
        monkeypatch.setattr(sys, "argv", [*shlex.split(line.partition(": ")[2]), *more])
        monkeypatch.chdir(APP_ROOT)
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        said = capsys.readouterr()
        assert not exit_info.value.code, said.out + said.err
        return said.out

    return run


def test_ctrl_c_of_a_simulation_leaves_nothing_and_its_last_line_continues_it(
    tiny: Tiny, tmp_path: Path, start: Callable[..., Command], continues: Callable[..., str]
) -> None:
    """Twice, as an impatient person does; the run has no name of its own."""
    config = write_config(tiny(run_name=None, rounds=400, method="fedavg"), tmp_path / "tiny.yaml")
    command = start("run", config, "rounds=60", "threads=1")
    command.wait_until(lambda: "round  2/60" in command.output)
    command.signal(signal.SIGINT, signal.SIGINT)
    assert command.process.wait(timeout=60) == 130
    assert command.left() == []
    (folder,) = (tmp_path / "runs").iterdir()
    with locked(folder):
        pass
    assert "stopped (Ctrl-C)\nto continue after round" in command.output and "Traceback" not in command.output
    said = continues(command.output, "--engine", "local")
    assert "taken up after round" in said and "round 60/60" in said and (folder / "report.html").is_file()


def test_a_command_that_is_killed_takes_its_simulation_along(
    tiny: Tiny, tmp_path: Path, start: Callable[..., Command]
) -> None:
    command = start("run", write_config(tiny(rounds=400, method="fedavg"), tmp_path / "tiny.yaml"))
    command.wait_until(lambda: "round   2/400" in command.output)
    command.signal(signal.SIGKILL)
    wait_until(lambda: command.left() == [], 60, lambda: str(command.left()))
    with locked(tmp_path / "runs" / "run"):
        pass


def test_a_comparison_by_flower_leaves_nothing(tiny: Tiny, tmp_path: Path, start: Callable[..., Command]) -> None:
    config, output = write_config(tiny(run_name=None, rounds=400), tmp_path / "tiny.yaml"), tmp_path / "out"
    command = start(
        "compare", config, "--methods", "fedavg", "--seeds", "0", "--engine", "flower", "--output", str(output)
    )
    log = output / "runs" / "fedavg-seed0" / "log.txt"
    command.wait_until(lambda: log.exists() and "round   2/400" in log.read_text())
    command.signal(signal.SIGTERM)
    assert command.process.wait(timeout=90) == 143
    assert command.left() == []
    assert command.output.endswith(f"{output} keeps the finished runs, and the same command goes on\n")
    with locked(output / "runs" / "fedavg-seed0"):
        pass
    assert "to continue" not in log.read_text()  # the comparison's command does


def test_a_terminal_that_closes_while_flower_starts(tiny: Tiny, tmp_path: Path, start: Callable[..., Command]) -> None:
    command = start("run", write_config(tiny(run_name=None), tmp_path / "tiny.yaml"))
    command.wait_until(lambda: any("flower-superli" in name for name in command.left()))
    command.signal(signal.SIGHUP)
    assert command.process.wait(timeout=60) == 129
    assert command.left() == []
    assert "\nno round was kept; to begin again: fednc run " in command.output
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_run_in_its_own_process_ends_in_order(
    tiny: Tiny, tmp_path: Path, start: Callable[..., Command], continues: Callable[..., str]
) -> None:
    """What nohup has ignored stays ignored."""
    config = write_config(tiny(rounds=60, method="fedavg"), tmp_path / "tiny.yaml")
    command = start("run", config, "--engine", "local", ignored=[signal.SIGHUP])
    command.wait_until(lambda: "round  2/60" in command.output)
    command.signal(signal.SIGHUP)
    command.wait_until(lambda: "round  4/60" in command.output)
    command.signal(signal.SIGTERM)
    assert command.process.wait(timeout=60) == 143
    assert command.left() == []
    assert command.output.splitlines()[-1].endswith("run-name=run resume=true --engine local")
    assert "round 60/60" in continues(command.output)
