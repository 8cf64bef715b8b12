"""Which parameters stand in which group of the optimiser, at which rate, and how gradients are clipped."""

from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from torch import nn

from client_app.methods import load
from client_app.methods.base import LocalContext
from client_app.site.site import simulated_site
from client_app.training.loop import finetune_head, train_site
from client_app.training.optimiser import optimiser_for, scaler_for, take_step
from common.config import Experiment
from common.errors import RefusalError
from common.models.model import build_model
from common.optimisers import OPTIMISERS

Tiny = Callable[..., Experiment]


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape))


def test_an_optimiser_leaves_out_what_stands_still(tiny: Tiny) -> None:
    moving, still = parameter(2), nn.Parameter(torch.ones(2), requires_grad=False)
    named = [("backbone.a", moving), ("backbone.b", still)]
    (group,) = optimiser_for(named, 0.25, tiny(momentum=0.5, weight_decay=0.125)).param_groups
    assert group["params"] == [moving] and (group["lr"], group["momentum"], group["weight_decay"]) == (0.25, 0.5, 0.125)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_each_part_has_its_rate_and_biases_decay_under_sgd_alone(tiny: Tiny, name: str) -> None:
    experiment = tiny(optimizer=name, weight_decay=0.5, head_rate=10, backbone_rate=0.5)
    named = {
        "backbone.conv.weight": parameter(2, 2, 3, 3),
        "backbone.norm.weight": parameter(2),
        "personal_backbone.conv.weight": parameter(2, 2, 3, 3),
        "aux_head.weight": parameter(3, 2),
        "aux_head.bias": parameter(3),
        "projection.scale": parameter(),
    }
    optimizer = optimiser_for(named.items(), 0.25, experiment)
    module, _, kind = OPTIMISERS[name].build.partition(":")
    assert type(optimizer) is getattr(import_module(module), kind)
    found = {
        n: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for n, p in zip(group["names"], group["params"], strict=True)
        if p is named[n]
    }
    small = 0.5 if name == "sgd" else 0.0
    assert found == {
        "backbone.conv.weight": (0.125, 0.5),
        "backbone.norm.weight": (0.125, small),
        "personal_backbone.conv.weight": (0.125, 0.5),
        "aux_head.weight": (2.5, 0.5),
        "aux_head.bias": (2.5, small),
        "projection.scale": (2.5, small),
    }


def test_each_part_is_clipped_by_itself(tiny: Tiny) -> None:
    parts = {"backbone.w": parameter(4), "aux_head.w": parameter(4), "aux_head.v": parameter(2, 8)}
    experiment = tiny(optimizer="adamw", weight_decay=0.1, clip_gradients=1.5)  # the head is in two groups
    optimizer = optimiser_for(parts.items(), 0.1, experiment)
    slopes = {"backbone.w": 0.5, "aux_head.w": 3.0, "aux_head.v": 2.0}
    loss = torch.stack([slopes[name] * p.sum() for name, p in parts.items()]).sum()
    take_step(optimizer, loss, experiment)
    norms = {name: p.grad.norm().item() for name, p in parts.items() if p.grad is not None}
    assert norms["backbone.w"] == 1.0  # below the limit: as it was
    assert (norms["aux_head.w"] ** 2 + norms["aux_head.v"] ** 2) ** 0.5 == pytest.approx(1.5, rel=1e-5)
    assert norms["aux_head.w"] / norms["aux_head.v"] == pytest.approx(6 / 8, rel=1e-5)


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_scaled_gradients_move_parameters_as_plain_ones_and_small_ones_are_kept(tiny: Tiny, clip: float) -> None:
    moved = []
    for precision in ("fp32", "fp16"):
        experiment, weight = tiny(clip_gradients=clip, precision=precision), parameter(3)
        optimizer = optimiser_for([("backbone.w", weight)], 0.1, experiment)
        scaler = scaler_for(experiment, torch.device("cpu"))
        for _ in range(3):
            take_step(optimizer, (weight**2).sum(), experiment, scaler)
        take_step(optimizer, (weight.half().float() * 1e-8).sum(), experiment, scaler)  # float16 has no 1e-8
        moved.append(weight.detach().clone())
        assert weight.grad is not None
        assert bool((weight.grad > 0).all()) == (precision == "fp16")
    torch.testing.assert_close(*moved)


def test_a_step_whose_gradients_overflow_is_left_out_and_endless_overflow_is_said(tiny: Tiny) -> None:
    experiment, weight = tiny(precision="fp16"), parameter(3)
    optimizer, scaler = optimiser_for([("backbone.w", weight)], 0.1, experiment), scaler_for(experiment, weight.device)
    take_step(optimizer, (weight.half() * 1000).float().sum(), experiment, scaler)  # 1024 · 1000 is infinite
    assert torch.equal(weight, torch.ones(3))
    assert scaler.get_scale() == 512
    with pytest.raises(RefusalError, match="gradients overflow in step after step; set precision: bf16"):
        for _ in range(10):
            take_step(optimizer, (weight * float("inf")).sum(), experiment, scaler)
    assert torch.equal(weight, torch.ones(3))


@pytest.mark.parametrize("changes", [{"optimizer": "adamw", "learning_rate": 0.01}, {"nesterov": True}])
def test_training_and_fine_tuning_learn_with_any_optimiser(tiny: Tiny, changes: dict[str, object]) -> None:
    experiment = tiny(method="fedavg", local_epochs=5, head_rate=2, clip_gradients=1, **changes)
    model, site = build_model(experiment, 1, 10, None, site="site-00"), simulated_site(experiment, 0)
    first, second = (train_site(model, load("fedavg"), site, server_round) for server_round in (1, 2))
    assert second["backbone"] < first["backbone"]
    head, features, labels = nn.Linear(4, 4), torch.eye(4).repeat(10, 1), torch.arange(4).repeat(10)
    local = LocalContext(experiment.replace(finetune_epochs=20, finetune_learning_rate=0.5), torch.ones(4), {}, 40)
    finetune_head(head, features, labels, local)
    assert (head(features).argmax(dim=1) == labels).all()


def test_a_personal_head_changes_nothing_else_whatever_is_clipped(tiny: Tiny) -> None:
    """FedLoGe's θ and ψ are the same, bit for bit, whatever φ_k was when they were trained."""
    experiment = tiny(clip_gradients=0.1, optimizer="adam", learning_rate=0.01)
    frame = torch.randn(10, 16, generator=torch.Generator().manual_seed(0))
    states = []
    for scale in (1.0, 100.0):
        model = build_model(experiment, 1, 10, frame, site="site-00")
        assert model.personal_head is not None
        with torch.no_grad():
            model.personal_head.weight.mul_(scale)
        train_site(model, load("fedloge"), simulated_site(experiment, 0), 1)
        states.append({n: v.clone() for n, v in model.state_dict().items() if not n.startswith("personal")})
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
