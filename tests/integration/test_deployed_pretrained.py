"""Real sites and pretrained weights: the coordinator alone has the file, what stands still crosses once."""

import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from flwr.app import Message
from PIL import Image
from safetensors.numpy import load_file

from common import wire
from common.config import Experiment, build
from server_app.app import run
from server_app.engines.engines import load_client_app, run_local
from server_app.grids.local_grid import LocalGrid
from server_app.run.journal import read_events

CLASSES = ("cat", "dog", "fox")
SITES = ("north", "west")


class Guarded(LocalGrid):
    """Real sites in this process, for whom there is neither the coordinator's file of weights nor a network."""

    def __init__(self, sites: Sequence[Mapping[str, str]], weights: Path) -> None:
        super().__init__(load_client_app(), len(sites), sites)
        self._weights = weights
        self.asked: list[tuple[str, int, set[str], int]] = []  # kind, round, what came to stay, bytes

    def _answer(self, message: Message) -> Message:
        if message.metadata.message_type != wire.HELLO:
            request = wire.Request(message)
            size = wire.num_bytes(message)
            self.asked.append((message.metadata.message_type, request.round, {*request.fixed}, size))
        hidden = self._weights.rename(self._weights.with_suffix(".hidden"))
        with pytest.MonkeyPatch.context() as patch:
            for name in ("connect", "connect_ex", "sendto"):
                patch.setattr(socket.socket, name, _refuse)
            patch.setattr(torch.hub, "download_url_to_file", _refuse)
            try:
                return super()._answer(message)
            finally:
                hidden.rename(self._weights)


def _refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("a site asked for something from elsewhere")


def write_images(root: Path) -> tuple[list[dict[str, str]], Path]:
    """Write two sites' images and manifests, and one manifest of all; return the nodes' configurations and that."""
    rng, every, nodes = np.random.default_rng(0), [], []
    for name in SITES:
        (root / name).mkdir()
        rows = []
        for i in range(16):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(root / name / f"{i:02}.png")
            rows.append((f"{i:02}.png", "test" if i % 4 == 3 else "train", CLASSES[i % 3]))
        _write_csv(root / name / "manifest.csv", "image,split,label", rows)
        every += [(f"{name}/{image}", split, name, label) for image, split, label in rows]
        values = {"name": name, "data": name, "state-dir": f"{name}-state"}
        (root / f"{name}.yaml").write_text(yaml.safe_dump(values))
        nodes.append({"site-config": str(root / f"{name}.yaml")})
    _write_csv(root / "every.csv", "image,split,site,label", every)
    return nodes, root / "every.csv"


def _write_csv(path: Path, header: str, rows: Sequence[Sequence[str]]) -> None:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    from torchvision.models import shufflenet_v2_x0_5

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        torch.save(shufflenet_v2_x0_5(weights=None).state_dict(), tmp_path / "w.pth")
    return tmp_path / "w.pth"


def experiment_of(root: Path, weights: Path, **changes: Any) -> Experiment:
    values: dict[str, Any] = {
        "image-size": 32, "method": "fedloge", "backbone": "torchvision:shufflenet_v2_x0_5", "weights": str(weights),
        "train-from": "conv5", "device": "cpu", "batch-size": 4, "rounds": 2, "local-epochs": 1, "evaluate-every": 1,
        "finetune-epochs": 1, "dataset": "manifest", "output-dir": root / "runs",
    }  # fmt: skip
    return build(values | {key.replace("_", "-"): value for key, value in changes.items()})


def test_sites_take_the_weights_from_the_coordinator_once_and_nothing_from_elsewhere(
    tmp_path: Path, weights: Path
) -> None:
    nodes, every = write_images(tmp_path)
    agreed = {"classes": list(CLASSES), "pixel_mean": [0.485, 0.456, 0.406], "pixel_std": [0.229, 0.224, 0.225]}
    grid = Guarded(nodes, weights)
    given = {"partition": "deployed", "data_dir": every, "sites": 2, "run_name": "real"}
    real = run(grid, experiment_of(tmp_path, weights, **agreed, **given))
    assert [e["answered"] for e in read_events(real) if e["event"] == "round"] == [2, 2]
    assert not [e for e in read_events(real) if e["event"] in ("rejected", "left-out")]

    final, start = load_file(real / "generic.safetensors"), torch.load(weights, weights_only=True)
    still = {f"backbone.{name}" for name in start if not name.startswith(("conv5.", "fc."))}
    statistics = {f"backbone.{name}" for name in start if name.rpartition(".")[2].startswith(("running", "num_batch"))}
    first, second, later = grid.asked[:2], grid.asked[2:4], grid.asked[4:]
    assert all(fixed == still | statistics for _, _, fixed, _ in first)
    assert len(second) == len(later) == 2 and all(not fixed for _, _, fixed, _ in second + later)
    crossed = sum(final[name].nbytes for name in still | statistics)
    for (*_, before), (*_, after) in zip(first, second, strict=True):
        assert crossed <= before - after < 1.5 * crossed  # names, the frame

    for name in still:
        assert np.array_equal(final[name], start[name.removeprefix("backbone.")].numpy()), name
    assert not np.array_equal(final["backbone.conv5.0.weight"], start["conv5.0.weight"].numpy())
    for name in SITES:
        assert list((tmp_path / f"{name}-state").rglob("personal_model.safetensors"))
    shutil.rmtree(tmp_path / "west-state")

    simulated = run_local(experiment_of(tmp_path, weights, partition="natural", data_dir=every, run_name="simulated"))
    expected = load_file(simulated / "generic.safetensors")
    assert expected.keys() == final.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(final[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
