import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import build
from common.errors import UserError
from server_app.frames.build import build_frame, etf, measure, sparse_etf
from server_app.frames.initialisations import INITIALISATIONS
from server_app.frames.masks import draw_mask
from server_app.frames.solvers import MmaOptions


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(2, 30),
    spare=st.integers(0, 20),
    norm=st.sampled_from([0.1, 1.0, 7.0]),
    seed=st.integers(0, 99),
)
def test_etf_is_exact_from_one_dimension_less_than_classes(classes: int, spare: int, norm: float, seed: int) -> None:
    frame = etf(classes, classes - 1 + spare, seeded(seed), norm)
    quality = measure(frame)
    assert frame.shape == (classes, classes - 1 + spare) and frame.dtype == torch.float32
    assert quality.norm_mean == pytest.approx(norm, rel=1e-6)
    assert quality.norm_variance < 1e-12 * norm**2
    assert quality.angle_mean == pytest.approx(math.degrees(math.acos(-1 / (classes - 1))), abs=1e-4)
    assert quality.angle_variance < 1e-9


@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(2, 20),
    dim=st.integers(3, 64),
    sparsity=st.floats(0, 0.7),
    norm=st.sampled_from([0.1, 1.0]),
    seed=st.integers(0, 99),
)
def test_sparse_etf_keeps_its_invariants_wherever_it_exists(
    classes: int, dim: int, sparsity: float, norm: float, seed: int
) -> None:
    entries, zeros = classes * dim, round(sparsity * classes * dim)
    if entries - zeros < classes:
        with pytest.raises(UserError, match="sparsity"):
            sparse_etf(classes, dim, seeded(seed), sparsity, norm)
        return
    frame = sparse_etf(classes, dim, seeded(seed), sparsity, norm)
    quality = measure(frame)
    assert torch.isfinite(frame).all()
    unpaired = int((frame == 0).sum()) - zeros
    assert unpaired == 0 if classes > 5 else 0 <= unpaired <= 2
    assert (frame != 0).any(dim=1).all()
    assert quality.norm_mean == pytest.approx(norm, rel=1e-5)
    assert quality.norm_variance < 1e-10


@pytest.mark.parametrize(("dim", "classes"), [(512, 100), (64, 10), (64, 7), (32, 8), (16, 7), (64, 2)])
def test_projection_reaches_the_exact_geometry(dim: int, classes: int) -> None:
    quality = measure(sparse_etf(classes, dim, seeded(1), sparsity=0.6))
    assert quality.angle_variance < 1e-10
    assert quality.norm_variance < 1e-14
    assert quality.angle_mean == pytest.approx(math.degrees(math.acos(-1 / (classes - 1))), abs=1e-4)
    assert quality.sparsity == pytest.approx(0.6, abs=1.5 / (dim * classes))


def test_infeasible_mask_stops_near_the_geometry() -> None:
    # 4,000 entries cannot meet 5,050 conditions.
    quality = measure(sparse_etf(100, 100, seeded(), sparsity=0.6))
    assert quality.norm_variance < 1e-14
    assert quality.angle_variance < 0.6
    assert quality.angle_min > 86


def test_no_sparsity_is_the_dense_etf() -> None:
    assert torch.allclose(sparse_etf(10, 16, seeded(3), sparsity=0), etf(10, 16, seeded(3)), atol=1e-7)


def test_mma_improves_on_the_masked_etf() -> None:
    options = [MmaOptions("adam", 1e-3, steps) for steps in (1, 800)]
    before, after = (measure(sparse_etf(10, 64, seeded(), 0.6, solver="mma", mma_options=option)) for option in options)
    assert before.sparsity == after.sparsity == 0.6
    assert after.angle_variance < 0.05 * before.angle_variance
    assert after.norm_mean == pytest.approx(1, abs=0.02)


def test_mma_descends_with_sgd_and_a_small_norm() -> None:
    quality = measure(sparse_etf(6, 32, seeded(), 0.5, 0.1, solver="mma", mma_options=MmaOptions("sgd", 1e-2, 500)))
    assert quality.norm_mean == pytest.approx(0.1, rel=0.4)
    assert quality.sparsity == 0.5


@pytest.mark.parametrize(("dim", "classes", "least"), [(2, 10, 35.9), (3, 12, 63.3), (8, 10, 89), (64, 100, 88)])
def test_too_few_dimensions_give_the_widest_spread_and_one_warning(
    dim: int, classes: int, least: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fednc.frames"):
        quality = measure(etf(classes, dim, seeded(), 0.5))
    assert quality.angle_min > least
    assert quality.norm_mean == pytest.approx(0.5) and quality.norm_variance < 1e-12
    (record,) = caplog.records
    assert f"C = {classes} classes" in record.message and f"d = {dim} dimensions" in record.message
    assert f"{quality.angle_min:.2f}" in record.message


@pytest.mark.parametrize("solver", ["projection", "mma"])
def test_sparse_frame_in_too_few_dimensions(solver: str) -> None:
    frame = sparse_etf(
        40, 16, seeded(), 0.6, solver="mma" if solver == "mma" else "projection", mma_options=MmaOptions(steps=300)
    )
    quality = measure(frame)
    assert quality.sparsity == 0.6
    assert torch.isfinite(frame).all() and quality.angle_min > 25


@pytest.mark.parametrize("solver", ["projection", "mma"])
def test_same_seed_same_frame_bit_for_bit(solver: str) -> None:
    values = {"frame-solver": solver, "mma-steps": 20}
    first, again, other = (
        build_frame(build({**values, "seed": seed}), num_classes=10, dim=64)[0] for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_build_frame_follows_the_experiment_and_logs_its_quality(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fednc.frames"):
        frame, quality = build_frame(build({"frame-norm": 0.1, "sparsity": 0.5}), num_classes=10, dim=64)
        dense, dense_quality = build_frame(build({"frame": "etf"}), num_classes=10, dim=64)
    assert frame.shape == dense.shape == (10, 64)
    assert quality.solver == "projection" and quality.sparsity == 0.5
    assert quality.norm_mean == pytest.approx(0.1)
    assert dense_quality.solver == "closed-form" and dense_quality.sparsity == 0
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    assert "96.3794°" in caplog.records[0].message


def test_one_class_is_a_user_error() -> None:
    with pytest.raises(UserError, match="at least two classes"):
        build_frame(build({}), num_classes=1, dim=8)


@settings(max_examples=60, deadline=None)
@given(classes=st.integers(2, 40), dim=st.integers(2, 40), sparsity=st.floats(0, 0.95), seed=st.integers(0, 99))
def test_mask_supports_every_class_and_leaves_few_lone_entries(
    classes: int, dim: int, sparsity: float, seed: int
) -> None:
    kept = classes * dim - round(sparsity * classes * dim)
    if kept < classes:
        return
    mask = draw_mask(classes, dim, sparsity, seeded(seed))
    assert int(mask.sum()) == kept
    assert mask.sum(dim=0).min() >= max(1, min(dim, kept // (2 * classes)))
    assert int((mask.sum(dim=1) == 1).sum()) <= dim // 2


@pytest.mark.parametrize("kind", INITIALISATIONS)
def test_a_sparsified_initialisation_has_its_zeros_and_its_own_scale(kind: str) -> None:
    frame, quality = build_frame(build({"frame": kind, "sparsity": 0.6, "frame-norm": 5}), num_classes=10, dim=64)
    assert frame.shape == (10, 64) and int((frame == 0).sum()) == round(0.6 * 640)
    assert quality.solver == "drawn" and abs(quality.norm_mean - 5) > 0.01
    again, _ = build_frame(build({"frame": kind, "sparsity": 0.6}), num_classes=10, dim=64)
    other, _ = build_frame(build({"frame": kind, "sparsity": 0.6, "seed": 1}), num_classes=10, dim=64)
    assert torch.equal(frame, again) and not torch.equal(frame, other)


def test_fedetfs_frame_is_dense_and_of_norm_one_whatever_the_keys_of_another_method() -> None:
    values = {"method": "fedetf", "frame": "xavier", "frame-norm": 5}
    _, quality = build_frame(build(values), num_classes=10, dim=64)
    assert quality.solver == "closed-form" and quality.sparsity == 0
    assert quality.norm_mean == pytest.approx(1)
