"""Class means from exact sums against scikit-learn's nearest centroid on the same rounded features."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestCentroid

from common.closed_form.class_means import FeatureSums, counts_of, fault_of, means_of
from common.closed_form.ridge import members_of

CLASSES, DIM, RANGE = 5, 7, 16


def images(seed: int, number: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = np.r_[np.arange(CLASSES), rng.choice(CLASSES, number - CLASSES)]
    features = rng.normal(size=(CLASSES, DIM))[labels] + rng.normal(size=(number, DIM))
    return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels)


def sums_of(features: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    sums = FeatureSums(CLASSES, features.shape[1], RANGE)
    sums.add(features, members_of(labels, CLASSES))
    return sums.sums.numpy()


@given(st.integers(0, 1000))
def test_means_are_scikit_learns_centroids(seed: int) -> None:
    features, labels = images(seed)
    step = RANGE * 2.0**-21
    rounded = np.round(features.double().numpy() / step) * step
    centroids = NearestCentroid().fit(rounded, labels.numpy())
    sums = sums_of(features, labels)
    assert np.abs(means_of(sums, RANGE) - centroids.centroids_).max() < 1e-12
    assert counts_of(sums, RANGE).tolist() == np.bincount(labels, minlength=CLASSES).tolist()
    assert fault_of(sums, RANGE) is None
    unit = means_of(sums, RANGE) / np.linalg.norm(means_of(sums, RANGE), axis=1, keepdims=True)
    centroids.centroids_ = unit  # the nearest of unit vectors is the one with the largest score
    assert np.array_equal((rounded @ unit.T).argmax(axis=1), centroids.predict(rounded))


@given(st.integers(0, 100), st.permutations(range(90)), st.integers(0, 90))
def test_any_order_and_any_partition_give_the_same_bits(seed: int, order: list[int], cut: int) -> None:
    features, labels = images(seed)
    parts = (order[:cut], order[cut:])
    assert np.array_equal(sum(sums_of(features[part], labels[part]) for part in parts), sums_of(features, labels))
