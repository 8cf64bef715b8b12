"""The real thing on loopback: one coordinator, two sites, TLS, authentication, gRPC, images from folders."""

from pathlib import Path

import numpy as np
import yaml
from real_processes import CLASSES, Deployment, write_folders, write_site_config
from safetensors.numpy import load_file

from common.config import load
from server_app.app import run
from server_app.engines.engines import load_client_app
from server_app.grids.local_grid import LocalGrid

SITES = 2


def write_experiment(root: Path, coordinator: Path) -> Path:
    path = root / "pilot.yaml"
    values = {
        "partition": "deployed", "classes": list(CLASSES), "dataset": "image-folder", "data-dir": str(coordinator),
        "sites": SITES, "backbone": "cnn", "width": 4, "image-size": 8, "method": "fedloge", "rounds": 2,
        "local-epochs": 1, "batch-size": 16, "evaluate-every": 1, "finetune-epochs": 1, "device": "cpu",
        "round-timeout": 300, "output-dir": str(root / "runs"),
    }  # fmt: skip
    path.write_text(yaml.safe_dump(values))
    return path


def test_real_processes_give_the_results_of_the_in_process_engine(real: Deployment, tmp_path: Path) -> None:
    folders, coordinator = write_folders(tmp_path / "data", SITES)
    experiment = write_experiment(tmp_path, coordinator)
    names = [folder.name for folder in folders]
    configs = [
        write_site_config(tmp_path / "local" / name, name, data) for name, data in zip(names, folders, strict=True)
    ]
    grid = LocalGrid(load_client_app(), SITES, [{"site-config": str(path)} for path in configs])
    local = run(grid, load(experiment, {"run-name": "local"}))
    for name, data in zip(names, folders, strict=True):
        config = write_site_config(tmp_path / "real" / name, name, data)
        real.start_site(name, real.register(name), config)
    said = real.run({"config": experiment, "run-name": "real"})
    assert "round 2/2 | 2 of 2 sites" in said, said
    assert real.status().startswith("finished:completed")
    for name in names:
        assert "round 2: " in real.log(name)
    ours, theirs = load_file(local / "generic.safetensors"), load_file(local.parent / "real" / "generic.safetensors")
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_allclose(theirs[key], ours[key], rtol=1e-5, atol=1e-6, err_msg=key)
    for name in names:
        (real_model,) = (tmp_path / "real" / name / "state").rglob("personal_model.safetensors")
        (local_model,) = (tmp_path / "local" / name / "state").rglob("personal_model.safetensors")
        for key, value in load_file(local_model).items():
            np.testing.assert_allclose(load_file(real_model)[key], value, rtol=1e-5, atol=1e-6)
