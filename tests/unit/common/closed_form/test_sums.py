"""Sums over images are exact: the same bits for any order, any batches, and any partition of the images."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.closed_form.ridge import members_of
from common.closed_form.sums import (
    GroupSums,
    ImageSums,
    Packed,
    fault_of,
    fixed_point,
    packed_half,
    packed_length,
    steps_per_unit,
    unpacked,
)
from common.errors import RefusalError

CLASSES, DIM, RANGE = 3, 5, 8


def images(seed: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(number, DIM, generator=generator).clamp(-RANGE, RANGE)
    return features, torch.randint(CLASSES, (number,), generator=generator)


def sums_of(features: torch.Tensor, labels: torch.Tensor) -> Packed:
    sums = ImageSums(CLASSES, DIM, RANGE)
    sums.add(features, members_of(labels, CLASSES))
    return sums.packed()


@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(1, 5))
def test_any_partition_in_any_order_gives_the_same_sums(seed: int, number: int, sites: int) -> None:
    features, labels = images(seed, number)
    whole = sums_of(features, labels)
    rng = np.random.default_rng(seed)
    order, site_of = torch.from_numpy(rng.permutation(number)), rng.integers(sites, size=number)
    parts = [sums_of(features[order][site_of == site], labels[order][site_of == site]) for site in range(sites)]
    rng.shuffle(parts)
    assert np.array_equal(np.sum(parts, axis=0), whole)
    assert fault_of(whole, RANGE) is None


def test_a_part_is_subtracted_without_a_trace() -> None:
    features, labels = images(0, 30)
    whole, part = sums_of(features, labels), sums_of(features[:11], labels[:11])
    assert np.array_equal(whole - part, sums_of(features[11:], labels[11:]))


def test_sums_are_the_products_of_the_rounded_features() -> None:
    features, labels = images(1, 50)
    sums = GroupSums(sums_of(features, labels), RANGE)
    step = RANGE * 2.0**-21
    rounded = np.c_[np.round(features.double().numpy() / step) * step, np.ones(50)]
    for label in range(CLASSES):
        own = rounded[labels == label]
        assert np.abs(sums.gram(label).numpy() - own.T @ own).max() < 1e-10
    assert sums.counts.tolist() == np.bincount(labels, minlength=CLASSES).tolist()


def test_blocks_are_summed_exactly_at_the_end_of_the_range() -> None:
    features = torch.full((5000, 1), float(RANGE))
    sums = ImageSums(1, 1, RANGE)
    sums.add(features, torch.ones(5000, 1, dtype=torch.bool))
    assert sums.packed().tolist() == [[5000 << 42, 5000 * int(steps_per_unit(RANGE)) << 21, 5000 << 36]]


@pytest.mark.parametrize("value", [8.1, -9.0, float("nan"), float("inf")])
def test_a_feature_beyond_the_range_is_refused(value: float) -> None:
    with pytest.raises(RefusalError, match="beyond feature-range 8"):
        fixed_point(torch.tensor([[0.0, value]]), 8)


def test_several_labels_are_two_groups_each_of_the_images_that_know_them() -> None:
    labels = torch.tensor([[True, False], [False, False], [True, True]])
    assert members_of(labels, 2).tolist() == [
        [True, False, False, True],
        [False, False, True, True],
        [True, True, False, False],
    ]
    hidden = members_of(labels, 2, torch.tensor([True, False]))
    assert not hidden[:, [1, 3]].any() and hidden[:, 0].tolist() == [True, False, True]


def test_a_half_is_the_whole() -> None:
    features, labels = images(2, 20)
    whole = GroupSums(sums_of(features, labels), RANGE).gram(1)
    assert torch.equal(unpacked(packed_half(whole)), whole)
    assert len(packed_half(whole)) == packed_length(DIM + 1)


def spoilt(place: tuple[int, int], value: int) -> Packed:
    sums = sums_of(*images(3, 20))
    sums[place] = value
    return sums


@pytest.mark.parametrize(
    ("sums", "fault"),
    [
        (spoilt((0, -1), 5), "no number of images"),
        (spoilt((0, -1), -(1 << 36)), "no number of images"),
        (spoilt((1, 2), 1 << 60), "larger than"),
        (spoilt((1, 2), -(1 << 63)), "larger than"),
        (spoilt((2, 0), 0), "below the square"),
        (spoilt((2, 0), -5), "below the square"),
    ],
)
def test_what_can_be_no_sums_is_named(sums: Packed, fault: str) -> None:
    assert fault in str(fault_of(sums, RANGE))
