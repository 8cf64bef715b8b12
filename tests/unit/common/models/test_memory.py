"""What training takes at the least, by shapes alone, and models that are refused for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from common.config import Experiment, build
from common.errors import UserError
from common.models import memory
from common.models.backbones import build_backbone, shapes_of
from common.models.memory import check_memory, free_memory, needed_memory, total_memory
from server_app.engines.engines import run_local

CPU = torch.device("cpu")
TWICE = 2 * 4 * (4 * 8 * 8 + 8 * 4 * 4 + 16 * 2 * 2)  # bytes of the outputs of the convolutions and norms of `cnn`


def needed(**changes: Any) -> memory.Needed:
    keys = {"width": 4, "batch-size": 2000, "momentum": 0.0, "method": "fedavg"}
    return needed_memory(build(keys | {key.replace("_", "-"): value for key, value in changes.items()}), 1, (8, 8))


def test_weights_gradients_moments_and_activations_are_counted() -> None:
    body = build_backbone("cnn", 1, 4)
    weights = sum(value.nbytes for value in body.state_dict().values())
    trains = sum(p.nbytes for p in body.parameters())
    plain = needed()
    assert (plain.weights, plain.gradients, plain.activations) == (weights, trains, 2000 * TWICE)
    assert plain.total == weights + trains + 2000 * TWICE
    assert needed(momentum=0.5).gradients == 2 * trains
    assert needed(optimizer="adamw").gradients == 3 * trains
    ditto = needed(method="ditto")
    assert (ditto.weights, ditto.activations) == (2 * weights, 2 * plain.activations)
    assert needed(precision="bf16").activations == plain.activations // 2
    assert needed(batch_size=2).activations == 512 * 4 * 4 * 8 * 8  # the largest, of a batch of evaluation


def test_what_stands_still_keeps_nothing_for_gradients() -> None:
    assert needed(train_from="stage3").activations == max(2000 * 2 * 4 * 16 * 2 * 2, 512 * 4 * 4 * 8 * 8)
    assert needed(train_from="head").gradients == 0


@pytest.mark.parametrize("name", ["resnet8", "torchvision:shufflenet_v2_x0_5", "torchvision:regnet_y_400mf"])
def test_shapes_are_those_of_the_backbone_and_nothing_is_drawn(name: str) -> None:
    before = torch.random.get_rng_state()
    shapes = shapes_of(lambda: build_backbone(name, 3))
    assert torch.equal(before, torch.random.get_rng_state())
    own = build_backbone(name, 3).state_dict()
    assert {key: value.shape for key, value in shapes.state_dict().items()} == {k: v.shape for k, v in own.items()}
    assert {value.device.type for value in shapes.state_dict().values()} == {"meta"}


def test_the_container_decides_where_it_has_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    there = total_memory()
    assert there > free_memory(CPU) > 1 << 20
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    assert free_memory(CPU) > 1 << 20 and total_memory() == there
    (tmp_path / "memory.max").write_text("1000100\n")
    assert free_memory(CPU) == 1_000_000 and total_memory() == 1_000_100


def test_a_model_that_cannot_fit_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 1 << 30)
    experiment = build({"backbone": "torchvision:vit_b_16", "batch-size": 64, "optimizer": "adamw"})
    with pytest.raises(UserError) as refused:
        check_memory(experiment, 3, (224, 224), CPU)
    words = str(refused.value)
    assert words.startswith(
        "backbone = 'torchvision:vit_b_16': with batch-size 64 and images of 224×224 pixels it takes "
    )
    assert "(weights 0.3, gradients and moments 1.0, activations " in words
    assert "this machine has 1.0 GiB free; choose a smaller backbone" in words and "\n" not in words
    check_memory(
        build({"backbone": "torchvision:mobilenet_v2", "train-from": "head", "batch-size": 2}), 3, (32, 32), CPU
    )


def test_a_run_is_refused_before_anything_is_made(
    tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 1 << 20)
    with pytest.raises(UserError, match=r"backbone = 'resnet18': .* GiB free"):
        run_local(tiny(backbone="resnet18", width=None))
    assert not (tmp_path / "runs").exists()
    small = tiny(batch_size=4)
    check_memory(small, 1, (8, 8), CPU)  # our own small ones fit anywhere
