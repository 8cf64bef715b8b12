from collections.abc import Callable

import numpy as np
import pytest
import torch

from common.config import Experiment
from common.model import build_model, load_state, pick_device, state_of

Tiny = Callable[..., Experiment]


def test_heads_follow_the_method(tiny: Tiny) -> None:
    frame = torch.zeros(10, 16)
    coordinator = build_model(tiny(), 1, 10, frame)
    site = build_model(tiny(), 1, 10, frame, site="site-00")
    assert coordinator.aux_head is not None and coordinator.personal_head is None
    assert site.aux_head is not None and site.personal_head is not None
    assert build_model(tiny(method="fedavg"), 1, 10, site="site-00").personal_head is None
    assert build_model(tiny(head_bias=True), 1, 10, frame).aux_head.bias is not None


def test_every_method_and_site_starts_from_the_same_shared_weights(tiny: Tiny) -> None:
    first = state_of(build_model(tiny(), 1, 10, torch.zeros(10, 16), site="site-00"), ("backbone", "aux_head"))
    other = state_of(build_model(tiny(method="fedavg"), 1, 10, site="site-01"), ("backbone", "aux_head"))
    assert first.keys() == other.keys()
    assert all(np.array_equal(first[k], other[k]) for k in first)
    seeded = state_of(build_model(tiny(seed=1), 1, 10), ("aux_head",))
    assert not np.array_equal(seeded["aux_head.weight"], first["aux_head.weight"])


def test_building_leaves_torchs_generator_alone(tiny: Tiny) -> None:
    before = torch.random.get_rng_state()
    build_model(tiny(), 1, 10)
    assert torch.equal(before, torch.random.get_rng_state())


def test_state_round_trips_in_place_and_by_copy(tiny: Tiny) -> None:
    model, other = build_model(tiny(), 1, 10), build_model(tiny(seed=5), 1, 10)
    state = state_of(model, ("backbone", "aux_head"))
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
    assert "frame" not in state_of(model, ("backbone", "aux_head"))


def test_device_can_be_named() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
