"""Every multi-label loss against its formula in plain loops over images and labels."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common import losses

Rows = list[list[float]]
Flags = list[list[bool]]
COUNTS, IMAGES = [1, 40, 7, 90, 99], 100


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def mean_of_sums(term: Callable[[int, int], float], kept: Flags) -> float:
    """Add up term(b, c) where kept, divide by the images."""
    total = 0.0
    for b, row in enumerate(kept):
        for c, flag in enumerate(row):
            if flag:
                total += term(b, c)
    return total / len(kept)


def bce(z: Rows, y: Flags, kept: Flags) -> float:
    return mean_of_sums(lambda b, c: -math.log(sigmoid(z[b][c]) if y[b][c] else 1 - sigmoid(z[b][c])), kept)


def focal(z: Rows, y: Flags, kept: Flags, gamma: float, alpha: float | None) -> float:
    def term(b: int, c: int) -> float:
        true = sigmoid(z[b][c]) if y[b][c] else 1 - sigmoid(z[b][c])
        weight = 1 if alpha is None else alpha if y[b][c] else 1 - alpha
        return -weight * (1 - true) ** gamma * math.log(true)

    return mean_of_sums(term, kept)


def asymmetric(z: Rows, y: Flags, kept: Flags, gammas: tuple[float, float], margin: float) -> float:
    def term(b: int, c: int) -> float:
        p = sigmoid(z[b][c])
        if y[b][c]:
            return -((1 - p) ** gammas[0]) * math.log(p)
        shifted = max(p - margin, 0)
        return -(shifted ** gammas[1]) * math.log(1 - shifted)

    return mean_of_sums(term, kept)


def distribution_balanced(z: Rows, y: Flags, kept: Flags, gamma: float) -> float:
    alpha, beta, mu, lam, kappa = 0.2, 9.0, 0.25, 3.0, 0.1

    def term(b: int, c: int) -> float:
        class_level = 1 / len(COUNTS) / COUNTS[c]
        instance_level = sum(1 / len(COUNTS) / n for n, yes, k in zip(COUNTS, y[b], kept[b], strict=True) if yes and k)
        weight = alpha + (sigmoid(beta * (class_level / instance_level - mu)) if instance_level else 1)
        bias = -math.log(1 / (COUNTS[c] / IMAGES) - 1)
        u = z[b][c] + kappa * bias
        if y[b][c]:
            return weight * (1 - sigmoid(u)) ** gamma * math.log(1 + math.exp(-u))
        return weight / lam * sigmoid(lam * u) ** gamma * math.log(1 + math.exp(lam * u))

    return mean_of_sums(term, kept)


def prior_bce(z: Rows, y: Flags, kept: Flags, temperature: float) -> float:
    priors = [(n + 1) / (IMAGES + 2) for n in COUNTS]
    shifted = [[v + temperature * math.log(p / (1 - p)) for v, p in zip(row, priors, strict=True)] for row in z]
    return bce(shifted, y, kept)


def negative_suppression(scores: list[Rows], y: Flags, kept: Flags) -> float:
    positives, negatives = 0, []
    for b, image in enumerate(scores):
        for c, row in enumerate(image):
            if kept[b][c] and y[b][c]:
                positives += 1
            elif kept[b][c]:
                negatives.append(max(row))
    hardest = sorted(negatives, reverse=True)[:positives]
    return sum(max(0.0, sigmoid(v) - 0.3) for v in hardest) / len(scores)


def compact_clustering(features: list[Rows], y: Flags, kept: Flags, frame: Rows) -> float:
    def cosine(one: list[float], two: list[float]) -> float:
        return sum(a * b for a, b in zip(one, two, strict=True)) / math.hypot(*one) / math.hypot(*two)

    def term(b: int, c: int) -> float:
        if not y[b][c]:
            return 0.0
        powers = [math.exp(cosine(features[b][c], w) / 0.07) for w in frame]
        return -math.log(powers[c] / sum(powers))

    return mean_of_sums(term, kept)


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits [B, 5], scores [B, 5, 5], features [B, 5, 8], labels and mask [B, 5]; often without positives."""
    size = draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    normal = torch.randn(size, 5, 1 + 5 + 8, generator=generator, dtype=torch.float64)
    share, hidden = draw(st.sampled_from([0.0, 0.2, 0.5, 1.0])), draw(st.sampled_from([0.0, 0.3, 1.0]))
    labels = torch.rand(size, 5, generator=generator) < share
    mask = torch.rand(size, 5, generator=generator) >= hidden
    return 3 * normal[..., 0], 3 * normal[..., 1:6], normal[..., 6:], labels, mask


@given(batches())
def test_label_losses_are_their_formulas(batch: tuple[torch.Tensor, ...]) -> None:
    logits, _, _, labels, mask = batch
    counts = torch.tensor(COUNTS)
    prior = losses.prior_logit(counts, IMAGES).double()
    z, y = logits.tolist(), labels.tolist()
    for kept, given_mask in ((mask.tolist(), mask), (torch.ones_like(mask).tolist(), None)):
        pairs = [(losses.bce(logits, labels, given_mask), bce(z, y, kept))]
        for t in (0.0, 1.0, 0.7):
            pairs.append(
                (losses.bce(losses.compensated(logits, prior, t), labels, given_mask), prior_bce(z, y, kept, t))
            )
        for gamma, alpha in ((2.0, 0.25), (0.5, None), (0.0, 0.9), (1.0, 0.0)):
            pairs.append((losses.focal(logits, labels, given_mask, gamma, alpha), focal(z, y, kept, gamma, alpha)))
        for gammas, margin in (((0.0, 4.0), 0.05), ((1.0, 1.0), 0.0), ((0.5, 0.0), 0.3)):
            ours = losses.asymmetric(logits, labels, given_mask, *gammas, margin)
            pairs.append((ours, asymmetric(z, y, kept, gammas, margin)))
        for gamma in (0.0, 2.0):
            ours = losses.distribution_balanced(
                logits, labels, counts, IMAGES, given_mask, gamma, alpha=0.2, beta=9.0, mu=0.25, lam=3.0, kappa=0.1
            )
            pairs.append((ours, distribution_balanced(z, y, kept, gamma)))
        for ours, loop in pairs:
            assert ours.item() == pytest.approx(loop, rel=1e-5, abs=1e-12)


@given(batches())
def test_regularisers_are_their_formulas(batch: tuple[torch.Tensor, ...]) -> None:
    _, scores, features, labels, mask = batch
    frame = torch.randn(5, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    y = labels.tolist()
    for kept, given_mask in ((mask.tolist(), mask), (torch.ones_like(mask).tolist(), None)):
        ours = losses.negative_suppression(scores, labels, given_mask)
        assert ours.item() == pytest.approx(negative_suppression(scores.tolist(), y, kept), rel=1e-9, abs=1e-12)
        ours = losses.compact_clustering(features, labels, frame, given_mask)
        loop = compact_clustering(features.tolist(), y, kept, frame.tolist())
        assert ours.item() == pytest.approx(loop, rel=1e-9, abs=1e-12)
