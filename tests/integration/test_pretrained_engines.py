"""Every method on a pretrained backbone, with the trunk's cache and without, in Flower's simulation and at real sites.

All experiments of an engine are run by one ServerApp, one after the other, and leave what they leave in this process.
Two methods by themselves; with FEDNC_METHODS=all in the environment every one, which takes half an hour, or with
FEDNC_METHODS=fedrod,ditto those.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from one_flower_run import app_of_all, write_configs
from PIL import Image
from real_processes import Deployment
from safetensors.numpy import load_file

from common.config import Experiment, build
from common.methods import METHODS
from server_app.app import run
from server_app.engines.engines import load_client_app, run_local
from server_app.engines.flower_run import check_status, run_config, stream, superlink, tool
from server_app.grids.local_grid import LocalGrid

Tiny = Callable[..., Experiment]
_SAMPLE = [("fedloge", False), ("fednca_ml", True)]
_EVERY = [
    (name, several)
    for name, row in METHODS.items()
    for several in (False, True)
    if row.labels in ("any", "many" if several else "one")
]
_CHOSEN = os.environ.get("FEDNC_METHODS", "")
TASKS = [task for task in _EVERY if task[0] in _CHOSEN.split(",") or _CHOSEN == "all"] if _CHOSEN else _SAMPLE
CLASSES = ("cat", "dog", "fox")
SITES = ("north", "west")
KINDS = ("one label", "several labels")


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Any]:
    """Return the keys of a small pretrained backbone whose last stage trains."""
    from torchvision.models import shufflenet_v2_x0_5

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = shufflenet_v2_x0_5(weights=None)
        for _ in range(20):  # statistics as if something had been learned: else training diverges
            model(torch.randn(16, 3, 32, 32))
        torch.save(model.state_dict(), tmp_path / "w.pth")
    return {
        "backbone": "torchvision:shufflenet_v2_x0_5", "width": None, "weights": str(tmp_path / "w.pth"),
        "train_from": "conv5", "image_size": 32, "rounds": 2, "finetune_epochs": 1,
    }  # fmt: skip


def name_of(method: str, several: bool, cached: bool | None = None) -> str:
    tail = "" if cached is None else "-cached" if cached else "-computed"
    return f"{method}{'-several' if several else ''}{tail}"


def arrays_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the arrays of a run's or a site's files by name, without what differs: the hash of the run's identity."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.safetensors")}
    return {re.sub(r"personal-[0-9a-f]{16}-", "personal-", name): load_file(path) for name, path in files.items()}


def assert_same_arrays(ours: Path, theirs: Path) -> None:
    """Compare what two runs, or their sites, left; bit for bit."""
    expected, found = arrays_of(ours), arrays_of(theirs)
    assert expected and expected.keys() == found.keys()
    for name, arrays in expected.items():
        assert arrays.keys() == found[name].keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[name][key], array, err_msg=f"{theirs / name}: {key}")


def filled(trunks: Path) -> list[bool]:
    """Return of each cache in a folder whether anything is in it."""
    return [bool(np.fromfile(path, np.uint32).any()) for path in trunks.glob("*/checksums")]


def test_flowers_simulation_gives_the_runs_of_one_process(tiny_for: Tiny, tmp_path: Path, keys: dict[str, Any]) -> None:
    pytest.importorskip("ray", reason="Flower's simulation needs ray")

    def of(method: str, several: bool, cached: bool | None) -> Experiment:
        where = {"run_name": name_of(method, several, cached), "image_cache": tmp_path / f"cache-{cached}"}
        return tiny_for(method, several, trunk_cache=bool(cached), **where, **keys)

    local = {task: run_local(of(*task, None)) for task in TASKS}
    todo = [of(*task, cached) for task in TASKS for cached in (False, True)]
    (home := tmp_path / "home").mkdir()
    with superlink(home) as environment:
        words = "--federation-config", "num-supernodes=3 client-resources-num-cpus=1"
        command = [
            *tool("flwr"), "run", str(app_of_all(home / "app")), "fednc", "--stream", *words,
            "--run-config", run_config({"config": str(write_configs(todo, tmp_path / "configs"))}),
        ]  # fmt: skip
        check_status(stream(command, environment, str(home)), "fednc", environment, str(home))
    assert not filled(tmp_path / "cache-False" / "trunks")
    assert filled(tmp_path / "cache-True" / "trunks").count(True) >= 2  # of training images, and of test images
    for task, folder in local.items():
        for cached in (False, True):
            assert_same_arrays(folder, folder.parent / name_of(*task, cached))


def write_sites(root: Path, several: bool) -> dict[str, Path]:
    """Write each site's images and manifest, of one label an image or several, and return their folders."""
    rng, labels = np.random.default_rng(0), ("cat|dog", "dog", "cat|fox") if several else CLASSES
    for name in SITES:
        (folder := root / name).mkdir(parents=True)
        rows = ["image,split,labels" if several else "image,split,label"]
        for i in range(20):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / f"{i:02}.png")
            rows.append(f"{i:02}.png,{'test' if i % 4 == 3 else 'train'},{labels[i % len(labels)]}")
        (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return {name: root / name for name in SITES}


def write_site_configs(root: Path, data: dict[str, Path]) -> dict[str, Path]:
    """Write the configurations of sites that agree to what any method asks of them, and return their files."""
    root.mkdir()
    policy = {"extras": sorted({extra for row in METHODS.values() for extra in row.extras}), "min-class-size": 1}
    for name, folder in data.items():
        values = {"name": name, "data": str(folder), "state-dir": str(root / name / "state"), "policy": policy}
        (root / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return {name: root / f"{name}.yaml" for name in data}


@pytest.mark.parametrize("several", [False, True] if _CHOSEN else [False], ids=lambda several: KINDS[several])
def test_real_sites_give_the_runs_of_one_process(
    real: Deployment, tmp_path: Path, keys: dict[str, Any], several: bool
) -> None:
    # ratio_loss takes what only a simulation's coordinator has, and says so
    methods = [method for method, many in TASKS if many == several and method != "ratio_loss"]
    if not methods:
        pytest.skip("none of the methods that FEDNC_METHODS names learns from such labels")
    data = write_sites(tmp_path / "data", several)

    def of(method: str, cached: bool | None) -> Experiment:
        values: dict[str, Any] = {
            "partition": "deployed", "classes": list(CLASSES), "labels": "many" if several else "one", "sites": 2,
            "dataset": "manifest", "data_dir": data[SITES[0]] / "manifest.csv",  # the coordinator's, for testing
            "pixel_mean": [0.485, 0.456, 0.406], "pixel_std": [0.229, 0.224, 0.225], "method": method,
            "head_bias": several, "batch_size": 4, "local_epochs": 1, "evaluate_every": 1, "device": "cpu",
            "trunk_cache": bool(cached), "output_dir": tmp_path / "runs", "run_name": name_of(method, several, cached),
        }  # fmt: skip
        return build({key.replace("_", "-"): value for key, value in (values | keys).items()})

    configs = write_site_configs(tmp_path / "local", data)
    nodes = [{"site-config": str(path)} for path in configs.values()]
    local = {name: run(LocalGrid(load_client_app(), 2, nodes), of(name, None)) for name in methods}
    for name, path in write_site_configs(tmp_path / "real", data).items():
        real.start_site(name, real.register(name), path)
    app = app_of_all(tmp_path / "app")
    for cached in (False, True) if _CHOSEN else (True,):
        config = write_configs([of(name, cached) for name in methods], tmp_path / f"configs-{cached}")
        words = "--stream", "--run-config", run_config({"config": str(config)})
        done = real.flwr("run", str(app), "prod", *words, seconds=3000)
        assert real.status().startswith("finished:completed"), done.stdout + done.stderr
        for name in SITES:
            assert bool(filled(tmp_path / "real" / name / "state" / "cache" / "trunks")) == cached
        for method, folder in local.items():
            assert_same_arrays(folder, folder.parent / name_of(method, several, cached))
            for name in SITES:
                states = [tmp_path / part / name / "state" for part in ("local", "real")]
                assert_same_arrays(states[0] / folder.name, states[1] / name_of(method, several, cached))
