"""Stages that stand still and BatchNorm's four ways: what trains, crosses, stays at the site and is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from safetensors.numpy import load_file
from torch import nn

from client_app import app as site_code
from client_app.methods import load
from client_app.site.site import simulated_site
from client_app.training.loop import train_site
from common import wire
from common.config import Experiment
from common.config.sections import conditions
from common.errors import UserError
from common.methods import METHODS
from common.models.model import build_model, fixed_state, personal_state, shared_state
from common.models.trained import load_trained
from server_app.engines.engines import run_local
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
BACKBONE = "torchvision:shufflenet_v2_x0_5"
SMALL = {"backbone": BACKBONE, "width": None, "image_size": 32, "rounds": 1}


@pytest.fixture
def weights(tmp_path: Path) -> str:
    from torchvision.models import shufflenet_v2_x0_5

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = shufflenet_v2_x0_5(weights=None)
    state = model.state_dict()
    with torch.no_grad():
        for name, value in state.items():  # statistics as if something had been learned
            if name.endswith("running_mean"):
                value += 0.1
    torch.save(state, tmp_path / "w.pth")
    return str(tmp_path / "w.pth")


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, set[str], set[str], set[str]]]:
    """Collect of every training: round, names that were averaged, that were sent once, and that came back."""
    seen: list[tuple[int, set[str], set[str], set[str]]] = []
    real = wire.metrics_reply

    def listening(message: Message, metrics: Any, model: Any = None, *rest: Any, **more: Any) -> Message:
        request = wire.Request(message)
        seen.append((request.round, {*request.model}, {*request.fixed}, {*(model or {})}))
        return real(message, metrics, model, *rest, **more)

    monkeypatch.setattr(wire, "metrics_reply", listening)
    return seen


@pytest.mark.parametrize("method", ["fedavg", "fedloge", "ditto"])
def test_what_stands_still_crosses_once_and_never_changes(tiny: Tiny, messages: list[Any], method: str) -> None:
    experiment = tiny(method=method, train_from="stage3", rounds=2, finetune_epochs=1)
    folder = run_local(experiment)
    model = build_model(experiment, 1, 10, torch.zeros(10, 16))
    still = {name for name in model.state_dict() if name.startswith(("backbone.stage1.", "backbone.stage2."))}
    assert model.fixed == still and still
    first, later = messages[:3], messages[3:]
    assert all(fixed == still and not averaged & still and not back & still for _, averaged, fixed, back in first)
    assert all(not fixed for _, _, fixed, _ in later) and {number for number, *_ in later} == {2, 3}
    final = load_file(folder / "generic.safetensors")
    start = model.state_dict()
    assert all(np.array_equal(final[name], start[name].numpy()) for name in still)
    assert not np.array_equal(final["backbone.stage3.0.weight"], start["backbone.stage3.0.weight"].numpy())
    rounds = [event for event in read_events(folder) if event["event"] == "round"]
    assert rounds[1]["bytes_down"] < rounds[0]["bytes_down"]
    load_trained(folder)


def test_heads_alone_train_on_a_trunk_that_stands_still(tiny: Tiny, messages: list[Any]) -> None:
    folder = run_local(tiny(method="fedavg", train_from="head", rounds=2))
    assert {name for _, _, _, back in messages for name in back} == {"aux_head.weight"}
    first, last = [e["loss"]["backbone"] for e in read_events(folder) if e["event"] == "round"]
    assert last < first


def test_a_run_with_a_trunk_that_stands_still_resumes_bit_for_bit(tiny: Tiny) -> None:
    keys: dict[str, Any] = {"method": "fedrod", "train_from": "stage2"}
    whole = run_local(tiny(rounds=2, run_name="whole", **keys))
    run_local(tiny(rounds=1, run_name="halves", **keys))
    halves = run_local(tiny(rounds=2, run_name="halves", resume=True, **keys))
    one, other = (load_file(folder / "generic.safetensors") for folder in (whole, halves))
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_a_site_that_lost_what_stands_still_says_so(tiny: Tiny) -> None:
    class Lost:
        frame_hash, frame, fixed = "abc", None, dict[str, Any]()

    class Store:
        def load(self, name: str) -> None:
            return None

    with pytest.raises(UserError, match="it will be sent again"):
        site_code._sent_once(Lost(), Store())


def test_stages_are_checked_before_a_run_and_named(tiny: Tiny) -> None:
    with pytest.raises(
        UserError,
        match=r"^train-from = 'stage4': backbone 'cnn' has no such stage \(did you mean 'stage3'\?\); known: "
        "stage1, stage2, stage3, head$",
    ):
        run_local(tiny(train_from="stage4"))
    for method in ("fedper", "fedrep", "fedbabu"):
        with pytest.raises(UserError, match=f"train-from = 'head': '{method}' shares the backbone alone"):
            tiny(method=method, train_from="head")


def trained(experiment: Experiment) -> tuple[Any, dict[str, torch.Tensor]]:
    site = simulated_site(experiment, 0)
    model = build_model(experiment, 1, 10, torch.eye(10, 16), site=site.name)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_site(model, load(experiment.method), site, 1)
    return model, before


def test_frozen_statistics_stay_while_scale_and_shift_move(tiny: Tiny) -> None:
    model, before = trained(tiny(method="fedavg", norm="frozen"))
    after, _ = model.state_dict(), before.pop("frame")
    statistics = {name for name in before if "running" in name or "tracked" in name}
    assert statistics == {*model.fixed} and not statistics & shared_state(model, METHODS["fedavg"]).keys()
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert all(not torch.equal(before[name], after[name]) for name in before.keys() - statistics)


def test_batchnorm_in_stages_that_stand_still_uses_its_statistics_in_training_too(tiny: Tiny) -> None:
    experiment = tiny(method="fedavg", norm="batch", train_from="stage3")
    model = build_model(experiment, 1, 10)
    for mode in (True, False):
        model.train(mode)
        norms = {name: part.training for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)}
        assert norms == {"backbone.stage1.1": False, "backbone.stage2.1": False, "backbone.stage3.1": mode}
    model, before = trained(experiment)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in model.fixed)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        *("backbone.stage3.0.weight", "backbone.stage3.1.weight", "backbone.stage3.1.bias", "aux_head.weight")
    }


def test_local_statistics_stay_at_the_site_and_the_rest_is_averaged(tiny: Tiny) -> None:
    experiment = tiny(method="fedavg", norm="local")
    model = build_model(experiment, 1, 10, site="site-00")
    kept, shared = personal_state(model, METHODS["fedavg"]), shared_state(model, METHODS["fedavg"])
    assert kept and all("running" in name or "tracked" in name for name in kept)
    assert kept.keys() | shared.keys() == model.state_dict().keys() and not kept.keys() & shared.keys()
    folder = run_local(experiment)
    own = [load_file(folder / "sites" / f"site-0{i}" / "personal-00002.safetensors") for i in (0, 1)]
    assert own[0].keys() == kept.keys()
    assert not np.array_equal(own[0]["backbone.stage1.1.running_mean"], own[1]["backbone.stage1.1.running_mean"])


def test_fedbn_starts_from_the_weights_statistics_and_scales(tiny: Tiny, weights: str, messages: list[Any]) -> None:
    run_local(tiny(method="fedbn", weights=weights, norm="batch", **SMALL))
    norms = messages[0][2]
    assert norms and all(name.rsplit(".", 1)[1] in {"weight", "bias", *_statistics()} for name in norms)
    assert not norms & messages[0][1] and not norms & messages[0][3]


def _statistics() -> set[str]:
    return {"running_mean", "running_var", "num_batches_tracked"}


def test_group_norm_takes_batchnorms_place(tiny: Tiny, weights: str) -> None:
    for backbone in ({"backbone": "resnet8"}, SMALL):
        model = build_model(tiny(method="fedavg", norm="group", **backbone), 1, 10)
        kinds = {type(part) for part in model.modules()}
        assert nn.GroupNorm in kinds and nn.BatchNorm2d not in kinds
    norms = [part for part in model.modules() if isinstance(part, nn.GroupNorm)]
    assert all(norm.num_channels % norm.num_groups == 0 and norm.num_groups <= 32 for norm in norms)
    run_local(tiny(method="fedavg", norm="group", rounds=1))
    with pytest.raises(UserError, match="norm = 'group': weights are of networks with BatchNorm"):
        tiny(norm="group", weights=weights, **SMALL)


def test_frozen_statistics_are_the_default_with_weights(tiny: Tiny, weights: str) -> None:
    from common.config.values import Values

    kinds = [conditions.norm_kind(Values(tiny(**keys))) for keys in ({}, {"weights": weights}, {"norm": "local"})]
    assert kinds == ["batch", "frozen", "local"]
    model = build_model(tiny(weights=weights, **SMALL), 1, 10)
    assert fixed_state(model, METHODS["fedavg"], tiny(weights=weights)).keys() == model.fixed


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_with_a_pretrained_backbone_of_torchvision(
    tiny_for: Tiny, weights: str, method: str, messages: list[Any]
) -> None:
    alone = METHODS[method].shared == ("backbone",)
    experiment = tiny_for(method, weights=weights, train_from="conv5" if alone else "head", finetune_epochs=1, **SMALL)
    folder = run_local(experiment)
    events = read_events(folder)
    assert [e["answered"] for e in events if e["event"] == "round"] == [3]
    assert not [e for e in events if e["event"] == "rejected"]
    frozen = "backbone.body." if METHODS[method].uses_attention else "backbone."
    assert all(not name.startswith(f"{frozen}conv1") for _, _, _, back in messages for name in back)
    final = load_file(folder / "generic.safetensors")
    theirs = torch.load(weights, weights_only=True)
    name = "stage3.0.branch2.0.weight"
    assert np.array_equal(final[f"{frozen}{name}"], theirs[name].numpy())
