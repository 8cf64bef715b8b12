"""At real sites, in one process: a patient withdraws, a site joins later, or has new images; nobody trains anew."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner

from client_app.cli import cli
from common.config import Experiment, build
from server_app.app import run
from server_app.engines.engines import load_client_app
from server_app.grids.local_grid import LocalGrid
from server_app.run.journal import read_events

Deployed = Callable[..., Experiment]


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    def make(name: str, **changes: Any) -> Experiment:
        values: dict[str, Any] = {
            "partition": "deployed", "classes": ["cat", "dog"], "image-size": 8, "method": "fedridge", "device": "cpu",
            "width": 4, "sites": 2, "rounds": 1, "output-dir": tmp_path / "runs", "run-name": name, "ridge-lambda": 1,
        }  # fmt: skip
        return build(values | {key.replace("_", "-"): value for key, value in changes.items()})

    return make


def write_site(root: Path, name: str, patients: dict[str, int]) -> dict[str, str]:
    """Write a site with so many images of each patient; return its node's configuration."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["image,split,patient,label"]
    for patient, images in patients.items():
        noise = np.random.default_rng([ord(letter) for letter in patient])
        for i in range(images):
            label = ("cat", "dog")[i % 2]
            pixels = noise.integers(0, 120, (8, 8)) + (100 if label == "dog" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{patient}-{i}.png")
            rows.append(f"{patient}-{i}.png,{'test' if patient == 'tess' else 'train'},{patient},{label}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    policy = {"extras": ["feature_sums"]}
    values = {"name": name, "data": name, "state-dir": f"{name}-state", "policy": policy}
    (root / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return {"site-config": str(root / f"{name}.yaml")}


def start(experiment: Experiment, *sites: dict[str, str]) -> dict[str, bytes]:
    folder = run(LocalGrid(load_client_app(), len(sites), list(sites)), experiment)
    assert not [e for e in read_events(folder) if e["event"] == "rejected"]
    arrays = load_file(folder / "generic.safetensors")
    return {name: array.tobytes() for name, array in arrays.items() if name.startswith("aux_head.")}


NORTH, SOUTH = {"ann": 6, "bob": 4, "tess": 4}, {"eve": 8, "tess": 2}


def test_a_patient_who_withdraws_is_as_if_never_there(deployed: Deployed, tmp_path: Path) -> None:
    south = write_site(tmp_path, "south", SOUTH)
    never = start(deployed("never"), write_site(tmp_path / "other", "north", {"ann": 6, "tess": 4}), south)
    north = write_site(tmp_path, "north", NORTH)
    first = start(deployed("run"), north, south)
    assert first != never
    said = CliRunner().invoke(cli, ["withdraw", north["site-config"], "bob"])
    assert said.exit_code == 0 and "bob: 4 images" in said.output and "keeps what it learned" in said.output
    assert start(deployed("run", rounds=2, resume=True), north, south) == never
    rounds = [e for e in read_events(tmp_path / "runs" / "run") if e["event"] == "round"]
    assert rounds[1]["bytes_up"] < rounds[0]["bytes_up"]  # the other site's sums are there already
    assert start(deployed("anew"), north, south) == never


def test_a_site_joins_later_and_another_has_new_images(deployed: Deployed, tmp_path: Path) -> None:
    north, south = write_site(tmp_path, "north", {"ann": 6, "tess": 4}), write_site(tmp_path, "south", SOUTH)
    start(deployed("run", sites=1), north)
    write_site(tmp_path, "north", NORTH)  # bob's images are new
    late = start(deployed("run", sites=2, rounds=2, resume=True), north, south)
    assert late == start(deployed("together"), north, south)


def test_who_is_not_there_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    north = write_site(tmp_path, "north", NORTH)
    said = CliRunner().invoke(cli, ["withdraw", north["site-config"], "ann", "bobb", "zoe"])
    assert said.exit_code == 1 and not (tmp_path / "north-state" / "withdrawn.json").exists()
    assert "no patient, nor an image, is called 'bobb'; did you mean 'bob'?" in str(said.exception)
    assert "'zoe'" in str(said.exception)
    assert CliRunner().invoke(cli, ["withdraw", north["site-config"], "bob-1.png"]).exit_code == 0
    again = CliRunner().invoke(cli, ["withdraw", north["site-config"], "bob-1.png"])
    assert again.exit_code == 0 and "withdrawn already" in again.output


def test_a_damaged_list_stops_the_site(deployed: Deployed, tmp_path: Path) -> None:
    north = write_site(tmp_path, "north", NORTH)
    (tmp_path / "north-state").mkdir()
    (tmp_path / "north-state" / "withdrawn.json").write_text("[")
    said = CliRunner().invoke(cli, ["withdraw", north["site-config"], "bob"])
    assert said.exit_code == 1 and "says who has withdrawn" in str(said.exception)
