"""Solved heads against scikit-learn on the pooled images, and against each image's own leverage."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from common.closed_form.own_sums import Pooled, SiteImages, choose_share, own_head, predict
from common.closed_form.ridge import (
    Equations,
    choose_strength,
    equations,
    group_weights,
    members_of,
    solve,
    solve_all,
    systems_of,
)
from common.closed_form.sums import GroupSums, ImageSums
from common.errors import UserError

CLASSES, DIM, RANGE = 4, 12, 16
Floats = npt.NDArray[np.float64]


def tail(seed: int, number: int = 160) -> tuple[torch.Tensor, torch.Tensor]:
    """Return long-tailed images whose classes overlap; each class has one."""
    rng = np.random.default_rng(seed)
    labels = np.r_[np.arange(CLASSES), rng.choice(CLASSES, number - CLASSES, p=[0.7, 0.2, 0.07, 0.03])]
    centres = rng.normal(size=(CLASSES, DIM))
    return torch.from_numpy((centres[labels] + rng.normal(size=(number, DIM))).astype(np.float32)), torch.from_numpy(
        labels
    )


def sums_of(features: torch.Tensor, members: torch.Tensor) -> GroupSums:
    sums = ImageSums(members.shape[1], DIM, RANGE)
    sums.add(features, members)
    return GroupSums(sums.packed(), RANGE)


def rounded(features: torch.Tensor) -> Floats:
    step = RANGE * 2.0**-21
    return np.asarray(np.round(features.double().numpy() / step) * step)


@given(st.integers(0, 1000), st.floats(1e-3, 1e4), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_generic_head_is_scikit_learns(seed: int, strength: float, balance: float) -> None:
    features, labels = tail(seed)
    sums, systems = sums_of(features, members_of(labels, CLASSES)), systems_of(CLASSES, False)
    weights = group_weights(sums.counts, systems, balance)
    head = solve(equations(sums, systems[0], weights), strength).numpy()
    counts = np.bincount(labels, minlength=CLASSES)
    each = (len(labels) / (CLASSES * counts)) ** balance
    pooled = Ridge(alpha=strength, solver="cholesky").fit(
        rounded(features), np.eye(CLASSES)[labels], sample_weight=each[labels]
    )
    assert np.abs(head[:, :-1] - pooled.coef_).max() < 1e-8
    assert np.abs(head[:, -1] - pooled.intercept_).max() < 1e-8


@given(st.integers(0, 1000), st.floats(1e-3, 1e4))
def test_a_head_without_bias_is_scikit_learns_without_intercept(seed: int, strength: float) -> None:
    features, labels = tail(seed)
    sums, systems = sums_of(features, members_of(labels, CLASSES)), systems_of(CLASSES, False)
    weights = group_weights(sums.counts, systems, 1.0)
    head = solve(equations(sums, systems[0], weights), strength, bias=False).numpy()
    each = len(labels) / (CLASSES * np.bincount(labels, minlength=CLASSES))
    alone = Ridge(alpha=strength, solver="cholesky", fit_intercept=False).fit(
        rounded(features), np.eye(CLASSES)[labels], sample_weight=each[labels]
    )
    assert np.abs(head[:, :-1] - alone.coef_).max() < 1e-8 and not head[:, -1].any()


@pytest.mark.parametrize("hidden", [False, True])
def test_each_label_is_scikit_learns_on_the_images_that_know_it(hidden: bool) -> None:
    """Two sites, one of which does not know the last label: its images do not count there."""
    rng = np.random.default_rng(5)
    features = torch.from_numpy(rng.normal(size=(120, DIM)).astype(np.float32))
    labels = torch.from_numpy(rng.random((120, 3)) < np.array([0.5, 0.2, 0.1]) + 0.2 * (features[:, :3].numpy() > 0))
    visible = torch.tensor([True, True, not hidden])
    packed = sum(
        sums_of(features[rows], members_of(labels[rows], 3, known)).packed
        for rows, known in ((slice(0, 70), visible), (slice(70, 120), None))
    )
    sums, systems = GroupSums(np.asarray(packed), RANGE), systems_of(3, True)
    weights = group_weights(sums.counts, systems, 1.0)
    head = solve_all([equations(sums, system, weights) for system in systems], [7.0, 7.0, 7.0]).numpy()
    for label in range(3):
        rows = slice(70, 120) if hidden and label == 2 else slice(0, 120)
        truth = labels[rows, label].numpy()
        each = np.where(truth, len(truth) / (2 * truth.sum()), len(truth) / (2 * (~truth).sum()))
        alone = Ridge(alpha=7.0, solver="cholesky").fit(
            rounded(features[rows]), np.where(truth, 1.0, -1.0), sample_weight=each
        )
        assert np.abs(head[label, :-1] - alone.coef_).max() < 1e-8
        assert abs(head[label, -1] - alone.intercept_) < 1e-8


def naive_risk(features: Floats, labels: npt.NDArray[np.int64], weights: Floats, strength: float) -> float:
    """Return the cross-validated risk by each image's row of the hat matrix, with leverages averaged by class."""
    design = np.c_[features, np.ones(len(features))]
    penalty = strength * np.diag([1.0] * DIM + [0.0])
    each = weights[labels]
    inverse = np.linalg.inv(design.T @ (each[:, None] * design) + penalty)
    fitted = design @ inverse @ design.T @ (each[:, None] * np.eye(CLASSES)[labels])
    errors = ((np.eye(CLASSES)[labels] - fitted) ** 2).sum(axis=1)
    leverages = np.array([each[i] * design[i] @ inverse @ design[i] for i in range(len(design))])
    risk = 0.0
    for label in range(CLASSES):
        own = labels == label
        risk += (each[own] * errors[own]).sum() / (1 - leverages[own].mean()) ** 2
    return float(risk / each.sum())


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_the_risk_of_each_strength_is_that_of_the_images(balance: float) -> None:
    features, labels = tail(3)
    sums, systems = sums_of(features, members_of(labels, CLASSES)), systems_of(CLASSES, False)
    weights, grid = group_weights(sums.counts, systems, balance), (0.1, 1.0, 30.0, 1e4)
    best, risks = choose_strength(sums, systems[0], weights, grid)
    naive = [naive_risk(rounded(features), labels.numpy(), weights, strength) for strength in grid]
    assert risks == pytest.approx(naive, rel=1e-8)
    assert best == grid[int(np.argmin(naive))]


def test_the_risk_is_near_that_of_leaving_each_image_out() -> None:
    features, labels = tail(4, 400)
    sums, systems = sums_of(features, members_of(labels, CLASSES)), systems_of(CLASSES, False)
    weights = group_weights(sums.counts, systems, 0.0)
    _, (risk,) = choose_strength(sums, systems[0], weights, (5.0,))
    hot, errors = np.eye(CLASSES)[labels], []
    for left in range(len(labels)):
        rest = np.arange(len(labels)) != left
        fit = Ridge(alpha=5.0, solver="cholesky").fit(features.numpy()[rest].astype(np.float64), hot[rest])
        errors.append(((fit.predict(features.numpy()[left : left + 1].astype(np.float64)) - hot[left]) ** 2).sum())
    assert risk == pytest.approx(np.mean(errors), rel=0.02)


def test_the_personal_head_is_scikit_learns_with_own_images_counted_again() -> None:
    features, labels = tail(6)
    own = slice(100, 160)
    systems = systems_of(CLASSES, False)
    whole, mine = (sums_of(features[r], members_of(labels[r], CLASSES)) for r in (slice(None), own))
    weights, my_weights = (group_weights(s.counts, systems, t) for s, t in ((whole, 1.0), (mine, 0.0)))
    pooled = Pooled(systems, [equations(whole, systems[0], weights)], weights, [9.0])
    head = own_head(pooled, mine, my_weights, 3.0).numpy()
    both = np.r_[rounded(features), rounded(features[own])]
    each = np.r_[weights[labels], 3.0 * np.ones(60)]
    hot = np.eye(CLASSES)[np.r_[labels, labels[own]]]
    again = Ridge(alpha=9.0, solver="cholesky").fit(both, hot, sample_weight=each)
    assert np.abs(head[:, :-1] - again.coef_).max() < 1e-8 and np.abs(head[:, -1] - again.intercept_).max() < 1e-8


def test_the_share_is_chosen_by_images_that_are_in_neither_sum() -> None:
    """Each part's patients are predicted by heads that scikit-learn fits without them."""
    features, labels = tail(7)
    own, groups = torch.arange(90, 160), np.repeat(np.arange(35), 2)
    systems = systems_of(CLASSES, False)
    whole = sums_of(features, members_of(labels, CLASSES))
    weights = group_weights(whole.counts, systems, 1.0)
    own_sums = sums_of(features[own], members_of(labels[own], CLASSES))
    mine = group_weights(own_sums.counts, systems, 0.0)
    pooled = Pooled(systems, [equations(whole, systems[0], weights)], weights, [9.0])
    images = SiteImages(features[own], labels[own], groups)
    shares = (0.0, 1.0, 10.0)
    best, quality = choose_share(pooled, images, own_sums, mine, np.random.default_rng(1), shares)
    part_of = np.random.default_rng(1).permutation(np.arange(35) % 5)[groups]
    hot = np.eye(CLASSES)
    for share, found in zip(shares, quality, strict=True):
        hits = 0
        for part in range(5):
            out = part_of == part
            rest = np.ones(160, bool)
            rest[own.numpy()[out]] = False
            again = own.numpy()[~out]
            both = np.r_[rounded(features)[rest], rounded(features)[again]]
            each = np.r_[weights[labels[rest]], share * np.ones(len(again))]
            fit = Ridge(alpha=9.0, solver="cholesky").fit(both, np.r_[hot[labels[rest]], hot[labels[again]]], each)
            hits += (
                fit.predict(features.double().numpy()[own.numpy()[out]]).argmax(1) == labels[own][out].numpy()
            ).sum()
        assert found == pytest.approx(hits / 70)
    assert best == shares[int(np.argmax(quality))]


def test_a_class_that_nobody_has_gets_zeros_and_is_not_predicted() -> None:
    features, labels = tail(8)
    systems = systems_of(CLASSES + 1, False)
    sums = sums_of(features, members_of(labels, CLASSES + 1))
    weights = group_weights(sums.counts, systems, 1.0)
    strength, _ = choose_strength(sums, systems[0], weights)
    head = solve(equations(sums, systems[0], weights), strength)
    assert head[CLASSES].abs().max() < 1e-12
    assert (predict(head, features).argmax(dim=1) < CLASSES).all()


def test_no_image_gives_zeros_and_one_its_class() -> None:
    systems = systems_of(CLASSES, False)
    features, labels = tail(9)
    for number in (0, 1):
        sums = sums_of(features[:number], members_of(labels[:number], CLASSES))
        weights = group_weights(sums.counts, systems, 1.0)
        strength, _ = choose_strength(sums, systems[0], weights)
        head = solve(equations(sums, systems[0], weights), strength)
        assert torch.isfinite(head).all()
        assert number == 0 or predict(head, features).argmax(dim=1).unique().tolist() == [labels[0].item()]


def test_singular_sums_are_a_user_error() -> None:
    same = torch.tensor([[1.0, 1.0, 1.0]], dtype=torch.float64)
    with pytest.raises(UserError, match="ridge-lambda = 0: the sums of features are singular"):
        solve(Equations(2 * same.T @ same, same), 0.0)
