"""Real sites agree on one label an image or several; what a site does not label, it neither learns nor judges."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file

from common.config import Experiment, build
from common.errors import UserError
from server_app.app import run
from server_app.engines.engines import load_client_app
from server_app.grids.local_grid import LocalGrid

CLASSES = ["cat", "dog", "fox"]


@pytest.fixture
def deployed(tmp_path: Path) -> Callable[..., Experiment]:
    def make(**changes: Any) -> Experiment:
        values: dict[str, Any] = {
            "partition": "deployed", "classes": CLASSES, "image-size": 8, "method": "fedavg", "labels": "many",
            "head-bias": True, "device": "cpu", "width": 4, "batch-size": 4, "sites": 2, "rounds": 1,
            "local-epochs": 2, "evaluate-every": 1, "output-dir": tmp_path / "runs", "run-name": "run",
        }  # fmt: skip
        return build(values | {key.replace("_", "-"): value for key, value in changes.items()})

    return make


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let caplog hear the coordinator's log, which keeps its lines to itself."""
    log = logging.getLogger("fednc")
    log.addHandler(caplog.handler)
    yield
    log.removeHandler(caplog.handler)


def write_site(root: Path, name: str, header: str, *labels: str) -> dict[str, str]:
    """Write a site of 12 images with these labels in turn; return its node's configuration."""
    folder = root / name
    folder.mkdir()
    rng = np.random.default_rng(len(name))
    rows = []
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{'test' if i % 4 == 3 else 'train'},{labels[i % len(labels)]}")
    (folder / "manifest.csv").write_text("\n".join([f"image,split,{header}", *rows]) + "\n")
    path = root / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, "data": name, "state-dir": f"{name}-state"}))
    return {"site-config": str(path)}


def head(folder: Path) -> dict[str, Any]:
    return load_file(folder / "generic.safetensors")


def start(experiment: Experiment, *sites: dict[str, str]) -> Path:
    return run(LocalGrid(load_client_app(), len(sites), list(sites)), experiment)


def test_a_class_that_no_site_labels_is_not_learned(tmp_path: Path, deployed: Callable[..., Experiment]) -> None:
    west = write_site(tmp_path, "west", "cat,fox", "1,0", "0,1", "0,0")
    two = west, write_site(tmp_path, "north", "cat,fox", "0,1", "1,0")
    masked = head(start(deployed(), *two))
    more = head(start(deployed(run_name="more", local_epochs=4), *two))
    for name in ("aux_head.weight", "aux_head.bias"):  # dog's: as it began, however long the training
        assert np.array_equal(masked[name][1], more[name][1])
        assert not np.array_equal(masked[name][0], more[name][0])
    all_of_them = write_site(tmp_path, "south", "cat,dog,fox", "1,0,0", "0,0,1")
    taught = head(start(deployed(run_name="taught"), west, all_of_them))
    assert not np.array_equal(masked["aux_head.weight"][1], taught["aux_head.weight"][1])


@pytest.mark.parametrize("method", ["fedrod", "fedloge_ml", "fednca_ml"])
def test_every_kind_of_method_takes_a_site_that_does_not_label_all(
    method: str, tmp_path: Path, deployed: Callable[..., Experiment]
) -> None:
    some = write_site(tmp_path, "west", "cat,fox", "1,0", "0,1", "1,1")
    every = write_site(tmp_path, "north", "labels", "cat", "dog|fox", "fox")
    folder = start(deployed(method=method, finetune_epochs=1, attention_heads=1), some, every)
    assert all(np.isfinite(array).all() for array in head(folder).values())


def test_sites_that_disagree_with_the_experiment_are_named(
    tmp_path: Path, deployed: Callable[..., Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    one = write_site(tmp_path, "west", "label", "cat", "dog", "fox")
    several = write_site(tmp_path, "north", "labels", "cat", "dog|fox")
    folder = start(deployed(labels="one", sites=1), one, several)
    assert "left out: site 'north': images have several labels each, but one each in this" in caplog.text
    caplog.clear()
    assert head(folder)["aux_head.weight"].shape[0] == 3
    start(deployed(run_name="many"), one, several)  # one label is a case of several
    assert "left out" not in caplog.text


def test_the_coordinators_own_images_must_agree(tmp_path: Path, deployed: Callable[..., Experiment]) -> None:
    site = write_site(tmp_path, "west", "label", "cat", "dog", "fox")
    write_site(tmp_path, "own", "labels", "cat", "dog|fox")
    given = {"dataset": "manifest", "data_dir": tmp_path / "own" / "manifest.csv"}
    with pytest.raises(UserError, match=r"the coordinator's test images .* the coordinator must set labels: many"):
        start(deployed(labels=None, sites=1, **given), site)
    folder = start(deployed(sites=1, **given), site)
    assert (folder / "summary.json").exists()
