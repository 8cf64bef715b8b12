"""A run's life between machines by the commands of the guide: start, status, logs, stop; exit codes tell the truth."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import yaml
from real_processes import CLASSES, Deployment, write_folders, write_site_config
from waiting import wait_until

PROGRAM = (sys.executable, "-c", "from server_app.cli import main; main()")


def fednc(real: Deployment, *words: str, seconds: float = 900) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *words], cwd=real.home, env=real.environment, capture_output=True, text=True, timeout=seconds,
        check=False,
    )  # fmt: skip


def newest(real: Deployment) -> str:
    """Return the newest run's id, once it runs."""

    def running() -> str:
        run = json.loads(real.flwr("ls", "prod", "--format", "json", "--limit", "1").stdout)["runs"][0]
        return str(run["run-id"]) if run["status"] == "running" else ""

    return wait_until(running, 600, "the newest run runs")


def write_experiment(root: Path, coordinator: Path) -> None:
    values = {
        "partition": "deployed", "classes": list(CLASSES), "dataset": "image-folder", "data-dir": str(coordinator),
        "sites": 1, "width": 4, "image-size": 8, "method": "fedloge", "rounds": 1, "local-epochs": 1,
        "evaluate-every": 1, "device": "cpu", "round-timeout": 900, "output-dir": str(root / "runs"),
    }  # fmt: skip
    (root / "pilot.yaml").write_text(yaml.safe_dump(values))


def test_the_exit_code_of_a_run_is_true(real: Deployment, tmp_path: Path) -> None:
    (folder,), coordinator = write_folders(tmp_path / "data", 1)
    write_experiment(tmp_path, coordinator)
    real.start_site("west", real.register("west"), write_site_config(tmp_path / "west", "west", folder))
    done = fednc(real, "run", "pilot.yaml", "run-name=one", "--superlink", "prod")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round 1/1 | 1 of 1 sites" in done.stdout and "Successfully" not in done.stdout
    assert (tmp_path / "runs" / "one" / "report.html").exists()

    failed = fednc(real, "run", "pilot.yaml", "data-dir=/nowhere", "--superlink", "prod")
    assert failed.returncode == 1 and "error: /nowhere: no such folder" in failed.stdout
    assert failed.stderr.startswith("error: the run ended as 'finished:failed")


def test_a_run_is_watched_and_stopped(real: Deployment, tmp_path: Path) -> None:
    """Without a site the coordinator waits, which is a run like any other."""
    write_experiment(tmp_path, write_folders(tmp_path / "data", 1)[1])
    words = ["run", "pilot.yaml", "run-name=long", "--superlink", "prod"]
    real.start("long", *PROGRAM, *words)
    real.wait_for("long", "fednc follow", 600)  # how to see it again, and how to stop it
    run = newest(real)
    assert f"flwr stop {run} prod" in real.log("long")
    real.start("watched", *PROGRAM, "follow", run, "--superlink", "prod")
    real.wait_for("watched", "sites connected", 300)
    real.processes["watched"].send_signal(signal.SIGTERM)
    assert real.processes["watched"].wait(timeout=60) == 143  # the run itself goes on
    assert f"run {run} goes on: `fednc follow {run} --superlink prod` shows" in real.log("watched")
    stopped = real.flwr("stop", run, "prod")
    assert stopped.returncode == 0, f"{stopped.stdout}{stopped.stderr}{real.log('long')[-2000:]}"
    assert real.processes["long"].wait(timeout=300) == 1 and "finished:stopped" in real.log("long")
    again = fednc(real, "follow", run, "--superlink", "prod")
    assert again.returncode == 1 and "finished:stopped" in again.stderr
    assert real.flwr("log", run, "prod", "--show").returncode == 0
    unknown = fednc(real, "run", "pilot.yaml", "--superlink", "nobody")
    assert unknown.returncode == 1 and "connection 'nobody' not found" in " ".join(unknown.stderr.split())
