"""Frames against FedLoGe's definitions, written out as loops."""

import math

import pytest
import torch

from server_app.frames.build import etf, measure, sparse_etf
from server_app.frames.solvers import mma_loss, simplex_gram


def naive_angle(first: list[float], second: list[float]) -> float:
    dot = sum(a * b for a, b in zip(first, second, strict=True))
    norms = math.sqrt(sum(a * a for a in first)) * math.sqrt(sum(b * b for b in second))
    return math.acos(max(-1.0, min(1.0, dot / norms)))


def variance(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values)


@pytest.mark.parametrize("norm", [0.1, 1.0])
def test_dense_frame_is_equation_2(norm: float) -> None:
    classes, dim = 7, 12
    frame = etf(classes, dim, torch.Generator().manual_seed(0), norm).double()
    # Eq. 2 names U; it is the frame rescaled plus one more direction, orthogonal to it, along 1.
    rest = torch.linalg.svd(frame)[2][classes - 1].unsqueeze(1)
    u = math.sqrt((classes - 1) / classes) / norm * frame.T + rest / math.sqrt(classes)
    assert torch.allclose(u.T @ u, torch.eye(classes, dtype=torch.float64), atol=1e-6)
    centring = torch.eye(classes, dtype=torch.float64) - 1 / classes
    equation = norm * math.sqrt(classes / (classes - 1)) * u @ centring
    assert torch.allclose(equation.T, frame, atol=1e-6)


@pytest.mark.parametrize(("dim", "classes"), [(4, 5), (5, 5), (32, 10), (1, 2)])
def test_gram_matrix_of_the_dense_frame(dim: int, classes: int) -> None:
    frame = etf(classes, dim, torch.Generator().manual_seed(1)).tolist()
    for i in range(classes):
        for j in range(classes):
            dot = sum(a * b for a, b in zip(frame[i], frame[j], strict=True))
            assert dot == pytest.approx(1 if i == j else -1 / (classes - 1), abs=1e-6)
            assert simplex_gram(classes)[i, j] == pytest.approx(dot, abs=1e-6)


def test_sparse_frame_has_the_dense_frames_gram_matrix() -> None:
    frame = sparse_etf(10, 32, torch.Generator().manual_seed(2), sparsity=0.6).double()
    assert torch.allclose(frame @ frame.T, simplex_gram(10), atol=1e-7)
    assert int((frame == 0).sum()) == 192


def test_measure_equals_loops_over_pairs() -> None:
    frame = torch.randn(9, 5, generator=torch.Generator().manual_seed(3))
    frame[2, 1] = frame[4, 4] = 0
    rows = frame.double().tolist()
    angles = [math.degrees(naive_angle(rows[i], rows[j])) for i in range(9) for j in range(i + 1, 9)]
    norms = [math.sqrt(sum(a * a for a in row)) for row in rows]
    quality = measure(frame)
    assert quality.angle_mean == pytest.approx(sum(angles) / 36)
    assert quality.angle_variance == pytest.approx(variance(angles))
    assert (quality.angle_min, quality.angle_max) == pytest.approx((min(angles), max(angles)))
    assert quality.norm_mean == pytest.approx(sum(norms) / 9)
    assert quality.norm_variance == pytest.approx(variance(norms))
    assert quality.sparsity == 2 / 45


def test_mma_loss_is_equations_4_and_5() -> None:
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    rows, norm = weight.tolist(), 0.7
    norm_loss = sum((math.sqrt(sum(a * a for a in row)) - norm) ** 2 for row in rows)
    closest = [min(naive_angle(rows[i], rows[j]) for j in range(6) if j != i) for i in range(6)]
    assert mma_loss(weight, norm).item() == pytest.approx(norm_loss - sum(closest) / 6)
