"""GA-FR and LA-FR against FedLoGe's Eqs. 6 and 7, written out as loops."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.methods import load
from client_app.methods.realign import realign_personal
from client_app.site.site import simulated_site
from client_app.training.loop import local_context
from common.config import Experiment
from common.models.model import build_model
from server_app.generic.realign import realign_generic

CLASSES, DIM = 5, 4
BiasMode = Literal["keep", "scale", "drop"]
Mode = Literal["paper", "sum", "product", "distribution", "none"]
MODES = ("paper", "sum", "product", "distribution", "none")
SHARES = [0.5, 0.0, 0.3, 0.15, 0.05]


def heads(seed: int, zero_rows: tuple[int, ...] = ()) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = 3 * torch.randn(CLASSES, DIM, generator=generator)
    weight[list(zero_rows)] = 0
    return weight, torch.randn(CLASSES, generator=generator)


def norm(row: list[float]) -> float:
    return math.sqrt(sum(value * value for value in row))


@pytest.mark.parametrize("bias_mode", ["keep", "scale", "drop"])
@pytest.mark.parametrize("zero_rows", [(), (1, 3)])
def test_generic_realignment_is_equation_6(bias_mode: BiasMode, zero_rows: tuple[int, ...]) -> None:
    psi, psi_bias = heads(0, zero_rows)
    before = psi.clone(), psi_bias.clone()
    weight, bias = realign_generic(psi, psi_bias, bias_mode)
    assert bias is not None
    for c in range(CLASSES):
        length = norm(psi[c].tolist()) or 1.0
        assert weight[c].tolist() == pytest.approx([value / length for value in psi[c].tolist()])
        b = psi_bias[c].item()
        assert bias[c].item() == pytest.approx({"keep": b, "scale": b / length, "drop": 0.0}[bias_mode])
    assert torch.equal(psi, before[0]) and torch.equal(psi_bias, before[1])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bias_mode", ["keep", "scale", "drop"])
@pytest.mark.parametrize("zero_rows", [(), (1, 3)])
def test_personal_realignment_is_equation_7(mode: Mode, bias_mode: BiasMode, zero_rows: tuple[int, ...]) -> None:
    psi, psi_bias = heads(1, zero_rows)
    phi, phi_bias = heads(2, zero_rows[:1])
    weight, bias = realign_personal(psi, psi_bias, phi, phi_bias, mode, bias_mode, torch.tensor(SHARES))
    assert bias is not None
    for c in range(CLASSES):
        psi_row, phi_row = psi[c].tolist(), phi[c].tolist()
        psi_norm = norm(psi_row)
        wanted = SHARES[c] if mode == "distribution" else norm(phi_row)
        gain = wanted if mode == "product" else wanted / psi_norm if psi_norm else 1.0
        realigned = [gain * value for value in psi_row]
        b = {"keep": phi_bias[c].item(), "scale": gain * psi_bias[c].item(), "drop": 0.0}[bias_mode]
        if mode == "sum":
            realigned = [a + own for a, own in zip(realigned, phi_row, strict=True)]
            b += phi_bias[c].item()
        if mode == "none":
            realigned, b = phi_row, phi_bias[c].item()
        assert weight[c].tolist() == pytest.approx(realigned, rel=1e-5)
        assert bias[c].item() == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize("bias_mode", ["keep", "scale", "drop"])
def test_sum_predicts_what_the_two_heads_predict_together(bias_mode: BiasMode) -> None:
    (psi, psi_bias), (phi, phi_bias) = heads(3), heads(4)
    features = torch.randn(20, DIM, generator=torch.Generator().manual_seed(5))
    single = torch.nn.functional.linear(features, *realign_personal(psi, psi_bias, phi, phi_bias, "sum", bias_mode))
    realigned = realign_personal(psi, psi_bias, phi, phi_bias, "paper", bias_mode)
    pair = torch.nn.functional.linear(features, *realigned) + torch.nn.functional.linear(features, phi, phi_bias)
    assert torch.allclose(single, pair, atol=1e-4)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_realigned_heads_keep_directions_and_take_norms(seed: int) -> None:
    psi, phi = heads(seed)[0], heads(seed + 1)[0]
    generic, none = realign_generic(psi, None)
    personal, also_none = realign_personal(psi, None, phi, None)
    assert none is None and also_none is None
    assert torch.allclose(generic.norm(dim=1), torch.ones(CLASSES))
    assert torch.allclose(personal.norm(dim=1), phi.norm(dim=1), rtol=1e-5)
    assert torch.allclose(torch.cosine_similarity(personal, psi), torch.ones(CLASSES))
    assert torch.allclose(realign_generic(generic, None)[0], generic)


@pytest.mark.parametrize("mode", MODES)
def test_result_is_new_memory(mode: Mode) -> None:
    (psi, psi_bias), (phi, phi_bias) = heads(6), heads(7)
    weight, bias = realign_personal(psi, psi_bias, phi, phi_bias, mode, shares=torch.tensor(SHARES))
    assert bias is not None
    weight.zero_(), bias.zero_()
    assert torch.equal(phi, heads(7)[0]) and torch.equal(phi_bias, heads(7)[1])
    assert torch.equal(psi, heads(6)[0])


def test_heads_that_disagree_are_refused() -> None:
    (psi, psi_bias), (phi, _) = heads(8), heads(9)
    with pytest.raises(ValueError, match="agree"):
        realign_personal(psi, psi_bias, phi, None)
    with pytest.raises(ValueError, match="agree"):
        realign_personal(psi[:2], None, phi, None)
    for shares in (None, torch.ones(CLASSES - 1)):
        with pytest.raises(ValueError, match="share of each class"):
            realign_personal(psi, None, phi, None, "distribution", shares=shares)


@pytest.mark.parametrize("several", [False, True])
def test_a_sites_own_shares_scale_its_head(tiny_for: Callable[..., Experiment], several: bool) -> None:
    """Of one label an image the shares add up to 1; of several, each label has its own; a hidden one has none."""
    name = "fedloge_ml" if several else "fedloge"
    experiment = tiny_for(name, realign="distribution", **({"missing_classes": 0.3} if several else {}))
    site = simulated_site(experiment, 0)
    dataset, rows = site.dataset, site.train_rows
    hidden = [] if site.visible is None else np.flatnonzero(~site.visible).tolist()
    assert bool(hidden) == several
    counts = [0] * 10
    for label in dataset.train.labels[rows]:
        for c in np.flatnonzero(label) if several else [label]:
            counts[c] += c not in hidden
    model, method = build_model(experiment, 1, 10, torch.rand(10, 16), site="site-00"), load(name)
    head = method.realigned_head(model, local_context(model, method, site))
    assert head is not None and model.aux_head is not None
    for c, psi in enumerate(model.aux_head.weight.tolist()):
        expected = [value / norm(psi) * counts[c] / len(rows) for value in psi]
        assert head.weight[c].tolist() == pytest.approx(expected, rel=1e-5)
    assert (sum(counts) == len(rows)) != several
