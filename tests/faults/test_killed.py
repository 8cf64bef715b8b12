"""A coordinator killed at any moment is taken up again and ends as if nothing had happened; a full disk says so."""

import logging
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from killed_coordinator import run
from safetensors.numpy import load_file
from trained_runs import TrainedRuns

from common.config import APP_ROOT, Experiment
from common.errors import UserError
from server_app.cli import main
from server_app.engines.engines import run_local
from server_app.report import write_report
from server_app.rounds import strategy
from server_app.run.checkpoint import Checkpoint
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
ROUNDS = 4
# a server that has imported everything once, also what a run imports on its way, from which each coordinator is forked
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["killed_coordinator", "server_app.engines.engines", "client_app.app", "sklearn.datasets", "torch._dynamo"]
)


class Runs:
    """Runs of one experiment in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder / "runs", folder / "killed.yaml"
        values = {
            "dataset": "digits", "head-class-size": 30, "imbalance-factor": 5, "sites": 3, "width": 4, "rounds": ROUNDS,
            "local-epochs": 1, "finetune-epochs": 1, "batch-size": 16, "evaluate-every": 1, "device": "cpu",
            "output-dir": str(self.folder),
        }  # fmt: skip
        self.config.write_text(yaml.safe_dump(values))
        self.seconds = 0.0

    def start(self, name: str, *kill: Any) -> multiprocessing.context.ForkServerProcess:
        process = processes.Process(target=run, args=([str(self.config), f"run-name={name}", "resume=true"], *kill))
        process.start()
        return process

    def end(self, name: str, *kill: Any) -> int | None:
        """Begin a run or take it up, and return how its process ended."""
        process = self.start(name, *kill)
        process.join(600)
        return process.exitcode

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        folder = self.folder / name
        paths = [folder / "generic.safetensors", *sorted(folder.glob("sites/*/personal*.safetensors"))]
        return {f"{path.relative_to(folder)}:{k}": v for path in paths for k, v in load_file(path).items()}

    def figures(self, name: str) -> list[dict[str, Any]]:
        free = ("time", "seconds", "bytes_down", "bytes_up", "cost")
        events = [e for e in read_events(self.folder / name) if e["event"] not in ("begin", "stopped")]
        return [{k: v for k, v in event.items() if k not in free} for event in events]

    def check(self, name: str) -> None:
        """Check that a run ended as the one that was never stopped."""
        expected, found = self.arrays("whole"), self.arrays(name)
        assert expected.keys() == found.keys()
        assert all(np.array_equal(expected[key], found[key]) for key in expected)
        assert self.figures(name) == self.figures("whole")
        assert not list((self.folder / name).rglob("*.part"))
        assert (self.folder / name / "report.html").exists()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    made = Runs(tmp_path_factory.mktemp("killed"))
    assert made.end("warm", *MOMENTS["the frame is built"]) == -signal.SIGKILL  # the server of processes is there now
    start = time.monotonic()
    assert made.end("whole") == 0
    made.seconds = time.monotonic() - start
    assert {key.split(":")[0] for key in made.arrays("whole")} > {"generic.safetensors"}
    yield made


MOMENTS = {
    "the frame is built": ("server_app.app:build_frame", 1, "after"),
    "the frame is half written": ("common.files:save_file", 1, "half", "frame.part"),
    "a site trains": ("client_app.app:train_site", 5, "before"),
    "a site has kept what is personal": ("client_app.training.store:SiteStore.save_version", 5, "after"),
    "a site's file is half written": ("common.files:save_file", 5, "half", "personal-"),
    "aggregating": ("server_app.aggregation.mean:RunningMean._accumulate", 5, "after"),
    "a line is written to the journal": ("server_app.run.journal:Journal.event", 7, "after"),
    "the round is over": ("server_app.rounds.strategy:save_checkpoint", 2, "before"),
    "the checkpoint is half written": ("common.files:save_file", 2, "half", "checkpoints"),
    "the checkpoint is written and has no name yet": ("server_app.run.checkpoint:save_arrays", 3, "before"),
    "the checkpoint is there": ("server_app.rounds.strategy:save_checkpoint", 3, "after"),
    "evaluating": ("server_app.rounds.strategy:FedStrategy.evaluate_generic", 3, "before"),
    "making personal models": ("client_app.app:finetune_head", 2, "after"),
    "the model is half written": ("common.files:save_file", 1, "half", "generic.part"),
    "the report is written": ("server_app.app:write_report", 1, "before"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_when(runs: Runs, moment: str) -> None:
    name = f"cut{list(MOMENTS).index(moment)}"
    assert runs.end(name, *MOMENTS[moment]) == -signal.SIGKILL
    assert not (runs.folder / name / "summary.json").exists() or "report" in moment
    assert runs.end(name) == 0
    leftovers = list((runs.folder / name).rglob("*.part"))
    for path in leftovers:  # half a file is never taken for one; the next one of that name replaces it
        assert moment.endswith("half written") and path.stem not in ("generic", "config")
        path.unlink()
    runs.check(name)


def test_killed_again_and_again_at_any_moment(runs: Runs) -> None:
    """The moments are drawn: from before the first round to after the last one."""
    draw, kills, name, seconds = random.Random(0), 0, "often", runs.seconds
    for attempt in range(8):
        process = runs.start(name)
        process.join(draw.uniform(0.1, 0.7) * seconds)
        if process.exitcode is None:
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            kills += 1
        elif kills:
            break
        else:  # the machine was busier when a run was timed: another one, killed earlier
            name, seconds = f"often-{attempt}", seconds / 2
    assert kills
    assert runs.end(name) == 0
    for path in (runs.folder / name).rglob("*.part"):
        path.unlink()
    runs.check(name)


def test_the_command_itself_killed_and_its_newest_checkpoint_damaged(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(APP_ROOT), "PYTHONUNBUFFERED": "1"}
    words = ["run", str(runs.config), "--engine", "local", "run-name=real", "resume=true"]
    command = [sys.executable, "-c", "from server_app.cli import main; main()", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("round 3/") and " | " in line:
                process.kill()
    newest = sorted((runs.folder / "real" / "checkpoints").glob("round-*.safetensors"))[-1]
    content = bytearray(newest.read_bytes())
    content[-2] ^= 4
    newest.write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["fednc", *words])  # the same command, here
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert not exit_info.value.code
    said = "".join(capsys.readouterr())
    assert f"{newest.name} is damaged" in said and "trying the one before it" in said
    assert f"taken up after round {int(newest.stem[-5:]) - 1} of {ROUNDS}" in said
    runs.check("real")


# --- a full disk ------------------------------------------------------------------------------------


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes: the system then refuses to write, as it does without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_at_the_coordinator_leaves_the_checkpoints(
    tiny: Tiny, trained: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(rounds=3)
    real = strategy.save_checkpoint

    def save(folder: Path, checkpoint: Any, keep: int) -> None:
        with full_disk(2000 if checkpoint.server_round == 3 else 10**9):
            real(folder, checkpoint, keep)

    with monkeypatch.context() as patch:
        patch.setattr(strategy, "save_checkpoint", save)
        with pytest.raises(UserError, match=r"round-00003\.safetensors: cannot be written .* resume=true"):
            run_local(tiny(run_name="cut", rounds=3))
    folder = tiny().run.output_dir / "cut"
    kept = [path.name for path in sorted((folder / "checkpoints").iterdir())]
    assert kept == ["round-00001.safetensors", "round-00002.safetensors"]  # and no half of the third
    run_local(tiny(run_name="cut", rounds=3, resume=True))
    ours, theirs = load_file(folder / "generic.safetensors"), load_file(whole / "generic.safetensors")
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


def test_a_folder_or_a_report_that_cannot_be_written_is_told(trained: TrainedRuns, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file is in the way")
    with pytest.raises(UserError, match=r"checkpoints: cannot be written .* resume=true"):
        strategy.save_checkpoint(tmp_path, Checkpoint(1, {}, {}), 3)
    folder = trained.copy(rounds=1)
    report = (folder / "report.html").read_text()
    with full_disk(2000), pytest.raises(UserError, match=r"report\.html: cannot be written .* make room"):
        write_report(folder)
    assert (folder / "report.html").read_text() == report and not list(folder.glob("*.part"))


@pytest.mark.parametrize("room", [0, 3000])
def test_a_full_disk_while_the_journal_is_written(
    tiny: Tiny, trained: TrainedRuns, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    whole = trained(rounds=3)
    real = strategy.FedStrategy._record_round

    def record(self: strategy.FedStrategy) -> None:
        with full_disk(room if self._round.number == 3 else 10**9):
            real(self)

    with monkeypatch.context() as patch:
        patch.setattr(strategy.FedStrategy, "_record_round", record)
        with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written .* resume=true"):
            run_local(tiny(run_name="cut", rounds=3))
    folder = run_local(tiny(run_name="cut", rounds=3, resume=True))
    ours, theirs = load_file(folder / "generic.safetensors"), load_file(whole / "generic.safetensors")
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


def test_a_full_disk_at_a_site_is_told_and_the_others_go_on(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from client_app.training.store import SiteStore

    real = SiteStore.save_version

    def save(self: SiteStore, arrays: Any, server_round: int, *more: Any) -> None:
        with full_disk(200 if (self.folder.name, server_round) == ("site-01", 2) else 10**9):
            real(self, arrays, server_round, *more)

    monkeypatch.setattr(SiteStore, "save_version", save)
    with caplog.at_level(logging.WARNING, logger="fednc"):
        folder = run_local(tiny(rounds=3))
    events = read_events(folder)
    ((number, site, reason),) = [(e["round"], e["site"], e["reason"]) for e in events if e["event"] == "rejected"]
    assert (number, site) == (2, "site-01") and "cannot be written" in reason and "make room" in reason
    assert [e["answered"] for e in events if e["event"] == "round"] == [3, 2, 3]
    states = folder / "sites" / "site-01"
    assert sorted(path.stem for path in states.glob("personal-*")) == ["personal-00001", "personal-00003"]
    assert not list(states.glob("*.part"))
