"""A real coordinator killed in the middle of a run, with all its processes, and started again: the sites stay."""

from pathlib import Path

import numpy as np
import yaml
from real_processes import CLASSES, deployment, write_folders, write_site_config
from safetensors.numpy import load_file
from waiting import wait_until

from common.config import load
from server_app.app import run
from server_app.engines.engines import load_client_app
from server_app.grids.local_grid import LocalGrid
from server_app.run.journal import read_events

ROUNDS, SECONDS = 3, 900


def test_a_killed_coordinator_is_started_again_and_the_run_taken_up(tmp_path: Path) -> None:
    folders, coordinator = write_folders(tmp_path / "data", 2)
    names = [folder.name for folder in folders]
    experiment = tmp_path / "pilot.yaml"
    values = {
        "partition": "deployed", "classes": list(CLASSES), "dataset": "image-folder", "data-dir": str(coordinator),
        "sites": 2, "width": 4, "image-size": 8, "rounds": ROUNDS, "local-epochs": 1, "batch-size": 16,
        "device": "cpu", "round-timeout": 600, "output-dir": str(tmp_path / "runs"), "resume": True,
    }  # fmt: skip
    experiment.write_text(yaml.safe_dump(values))

    def configs(kind: str) -> list[Path]:
        return [
            write_site_config(tmp_path / kind / name, name, data) for name, data in zip(names, folders, strict=True)
        ]

    grid = LocalGrid(load_client_app(), 2, [{"site-config": str(path)} for path in configs("local")])
    whole = run(grid, load(experiment, {"run-name": "whole"}))
    killed = whole.parent / "killed"
    words = {"config": experiment, "run-name": "killed"}
    # a SuperLink of its own: it is killed, and its database must outlive it
    with deployment(tmp_path, database=str(tmp_path / "superlink.db")) as real:
        for name, config in zip(names, configs("real"), strict=True):
            real.start_site(name, real.register(name), config)
        real.start("run", "flwr", *real.run_words(words))

        def first_round_is_kept() -> bool:
            assert real.processes["run"].poll() is None, real.log("run")[-3000:]
            return (killed / "checkpoints" / "round-00001.safetensors").exists()

        wait_until(first_round_is_kept, SECONDS, lambda: real.log("run")[-3000:])
        real.kill_all_of("superlink")
        real.kill("run")
        real.start_coordinator()
        said = real.run(words)
        assert real.status().startswith("finished:completed"), said
    events = read_events(killed)
    assert [event["round"] for event in events if event["event"] == "round"] == [1, 2, 3]
    assert [event["answered"] for event in events if event["event"] == "round"] == [2, 2, 2], said
    begins = [event["round"] for event in events if event["event"] == "begin"]
    assert begins[0] == 0 and begins[-1] in (1, 2), begins
    ours, theirs = load_file(whole / "generic.safetensors"), load_file(killed / "generic.safetensors")
    for key in ours:
        np.testing.assert_allclose(theirs[key], ours[key], rtol=1e-5, atol=1e-6, err_msg=key)
