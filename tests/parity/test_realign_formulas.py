"""GA-FR and LA-FR against FedLoGe's Eqs. 6 and 7, written out as loops."""

import math
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.realign import realign_personal
from server_app.realign import realign_generic

CLASSES, DIM = 5, 4
BiasMode = Literal["keep", "scale", "drop"]
Mode = Literal["paper", "sum", "product", "none"]


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


@pytest.mark.parametrize("mode", ["paper", "sum", "product", "none"])
@pytest.mark.parametrize("bias_mode", ["keep", "scale", "drop"])
@pytest.mark.parametrize("zero_rows", [(), (1, 3)])
def test_personal_realignment_is_equation_7(mode: Mode, bias_mode: BiasMode, zero_rows: tuple[int, ...]) -> None:
    psi, psi_bias = heads(1, zero_rows)
    phi, phi_bias = heads(2, zero_rows[:1])
    weight, bias = realign_personal(psi, psi_bias, phi, phi_bias, mode, bias_mode)
    assert bias is not None
    for c in range(CLASSES):
        psi_row, phi_row = psi[c].tolist(), phi[c].tolist()
        psi_norm = norm(psi_row)
        gain = norm(phi_row) if mode == "product" else norm(phi_row) / psi_norm if psi_norm else 1.0
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


@pytest.mark.parametrize("mode", ["paper", "sum", "product", "none"])
def test_result_is_new_memory(mode: Mode) -> None:
    (psi, psi_bias), (phi, phi_bias) = heads(6), heads(7)
    weight, bias = realign_personal(psi, psi_bias, phi, phi_bias, mode)
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
