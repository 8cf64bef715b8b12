from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from common.config import Experiment
from common.methods import METHODS
from common.models.model import build_model, load_state, personal_state, pick_device, shared_state

Tiny = Callable[..., Experiment]
FEDAVG = METHODS["fedavg"]


def test_heads_follow_the_method(tiny: Tiny) -> None:
    frame = torch.zeros(10, 16)
    coordinator = build_model(tiny(), 1, 10, frame)
    site = build_model(tiny(), 1, 10, frame, site="site-00")
    assert coordinator.aux_head is not None and coordinator.personal_head is None
    assert site.aux_head is not None and site.personal_head is not None
    assert build_model(tiny(method="fedavg"), 1, 10, site="site-00").personal_head is None
    assert build_model(tiny(head_bias=True), 1, 10, frame).aux_head.bias is not None


@pytest.mark.parametrize("method", METHODS)
def test_every_method_and_site_starts_from_the_same_weights(tiny: Tiny, method: str) -> None:
    plain = build_model(tiny(method="fedavg"), 1, 10, site="site-00")
    if "class_head" in METHODS[method].parts or not METHODS[method].trains:  # see the next test; those start at 0
        plain.aux_head = None
    model = build_model(tiny(method=method, attention=False), 1, 10, torch.zeros(10, 16), site="site-01")
    assert _equal(model.backbone, plain.backbone)
    # a head of a site's own beside ψ starts from the site's seed, as in FedLoGe's and FedROD's code
    for head in (model.aux_head or model.personal_head, model.retrained_head):
        assert head is None or plain.aux_head is None or _equal(head, plain.aux_head)


@pytest.mark.parametrize("bias", [False, True])
def test_fedloge_mls_heads_start_as_the_frames_head(tiny: Tiny, bias: bool) -> None:
    frame = torch.randn(10, 16)
    model = build_model(tiny(method="fedloge_ml", head_bias=bias), 1, 10, frame, site="site-01")
    features = torch.randn(3, 10, 16)
    assert model.aux_head is not None and model.personal_head is not None
    for head in (model.aux_head, model.personal_head):
        assert (head.bias is not None) is bias
        torch.testing.assert_close(head(features), model.frame_logits(features))


def test_other_seeds_are_other_weights(tiny: Tiny) -> None:
    first, other = (build_model(tiny(seed=seed), 1, 10) for seed in (0, 1))
    assert not _equal(first.backbone, other.backbone) and not _equal(first.aux_head, other.aux_head)


def _equal(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())


def test_building_leaves_torchs_generator_alone(tiny: Tiny) -> None:
    before = torch.random.get_rng_state()
    build_model(tiny(), 1, 10)
    assert torch.equal(before, torch.random.get_rng_state())


def test_state_round_trips_in_place_and_by_copy(tiny: Tiny) -> None:
    model, other = build_model(tiny(), 1, 10), build_model(tiny(seed=5), 1, 10)
    state = shared_state(model, FEDAVG)
    load_state(other, state)
    state["aux_head.weight"][:] = 7  # a copy: the model does not move
    assert torch.equal(model.aux_head.weight, other.aux_head.weight)
    assert not (model.aux_head.weight == 7).any()


def test_nothing_is_broadcast_or_made_up(tiny: Tiny) -> None:
    model = build_model(tiny(), 1, 10)
    with pytest.raises(ValueError, match=r"aux_head.weight: shape \(1,\)"):
        load_state(model, {"aux_head.weight": np.ones(1, np.float32)})
    with pytest.raises(KeyError):
        load_state(model, {"other": np.ones(1, np.float32)})


def test_the_frame_is_a_buffer_of_its_own(tiny: Tiny) -> None:
    frame = torch.randn(10, 16)
    model = build_model(tiny(), 1, 10, frame)
    frame += 1
    assert not torch.equal(model.frame, frame)
    assert "frame" not in dict(model.named_parameters())
    assert "frame" not in shared_state(model, FEDAVG)


def test_device_can_be_named() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}


def test_batch_norm_stays_where_the_method_says_so(tiny: Tiny) -> None:
    model = build_model(tiny(method="fedbn"), 1, 10, site="site-00")
    shared, kept = shared_state(model, METHODS["fedbn"]), personal_state(model, METHODS["fedbn"])
    norms = {name for name, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert {name.rsplit(".", 1)[0] for name in kept} == norms and norms
    assert shared.keys() | kept.keys() == model.state_dict().keys() and not shared.keys() & kept.keys()


def test_a_whole_personal_model_starts_as_the_global_one(tiny: Tiny) -> None:
    model = build_model(tiny(method="ditto"), 1, 10, site="site-00")
    state = model.state_dict()
    for name, value in state.items():
        if name.startswith("personal_"):
            origin = name.replace("personal_backbone", "backbone").replace("personal_head", "aux_head")
            assert torch.equal(value, state[origin]), name
    assert build_model(tiny(method="ditto"), 1, 10).personal_backbone is None  # the coordinator never has it
