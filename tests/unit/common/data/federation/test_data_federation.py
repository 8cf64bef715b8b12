"""Federations end to end: invariants on synthetic archives, natural sites, caching."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import Experiment
from common.data import build_federation, load_dataset
from common.data.federation.build import Federation
from common.data.federation.local_split import local_test_rows
from common.errors import UserError

SHARED = Path(__file__).resolve().parents[6] / "shared" / "data"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make 300 training and 60 test images of 4 classes; three sites; five images a patient."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "set.npz"
    np.savez(
        path,
        x_train=rng.integers(0, 256, (300, 3, 3), dtype=np.uint8),
        x_test=rng.integers(0, 256, (60, 3, 3), dtype=np.uint8),
        y_train=np.arange(300) % 4,
        y_test=np.arange(60) % 4,
        ward_train=np.arange(300) % 3,
        ward_test=np.arange(60) % 3,
        ward_names=np.array(["east", "north", "west"]),
        patient_train=np.arange(300) // 5,
        patient_test=1000 + np.arange(60) // 5,
    )
    return path


def build(archive: Path, **changes: Any) -> Federation:
    changes = {"group_key": "patient", **changes}
    return build_federation(Experiment(dataset="npz", data_dir=archive, **changes))


def same(one: Federation, other: Federation) -> bool:
    rows = zip(one.train_rows + one.test_rows, other.train_rows + other.test_rows, strict=True)
    return all(np.array_equal(a, b) for a, b in rows)


@given(
    sites=st.integers(1, 20),
    partition=st.sampled_from(["dirichlet", "iid"]),
    alpha=st.floats(0.1, 10),
    imbalance=st.sampled_from([1.0, 10.0]),
    local_test=st.sampled_from(["keep-classes", "paper"]),
    seed=st.integers(0, 5),
)
@settings(max_examples=60)
def test_invariants(
    archive: Path, sites: int, partition: Any, alpha: float, imbalance: float, local_test: Any, seed: int
) -> None:
    federation = build(
        archive,
        sites=sites,
        partition=partition,
        dirichlet=alpha,
        imbalance_factor=imbalance,
        local_test=local_test,
        min_site_size=0,
        seed=seed,
    )
    dataset = federation.dataset
    dealt = np.concatenate(federation.train_rows)
    assert len(np.unique(dealt)) == len(dealt) == federation.class_counts.sum()
    expected = [75, 75, 75, 75] if imbalance == 1 else [int(75 * 10 ** (-c / 3)) for c in range(4)]
    assert federation.class_counts.tolist() == expected
    assert federation.train_counts.shape == federation.test_counts.shape == (sites, 4)
    assert federation.train_counts.sum(axis=1).tolist() == [len(rows) for rows in federation.train_rows]
    for k, rows in enumerate(federation.test_rows):
        assert len(np.unique(rows)) == len(rows)
        if local_test == "keep-classes":
            assert np.array_equal(federation.test_counts[k] > 0, federation.train_counts[k] > 0)
        else:
            formula = federation.train_counts[k] * 60 // federation.class_counts.sum()
            assert np.array_equal(federation.test_counts[k], np.minimum(formula, 15))
        # No patient of a site's test split is in any site's training data.
        assert dataset.train_groups is not None
        assert dataset.test_groups is not None
        assert not np.intersect1d(dataset.train_groups[dealt], dataset.test_groups[rows]).size


def test_deterministic_in_the_seed(archive: Path) -> None:
    first = build(archive, sites=5, seed=1, imbalance_factor=5)
    again = build(archive, sites=5, seed=1, imbalance_factor=5, rounds=3, method="fedavg")
    assert again is first  # what does not concern the data does not rebuild it
    other = build(archive, sites=5, seed=2, imbalance_factor=5)
    assert other.dataset is first.dataset
    assert not same(first, other)
    build(archive, sites=4)  # drops the first one from the cache
    fresh = build(archive, sites=5, seed=1, imbalance_factor=5)
    assert fresh is not first
    assert same(first, fresh)


def test_more_sites_than_images(archive: Path) -> None:
    federation = build(archive, sites=400, min_site_size=0)
    assert len(federation.site_names) == 400
    empty = federation.train_counts.sum(axis=1) == 0
    assert empty.any()
    assert not federation.test_counts[empty].any()
    with pytest.raises(UserError, match="400 sites need 400 training images and there are 300"):
        build(archive, sites=400, min_site_size=1)


def test_natural_sites_use_their_own_test_images(archive: Path) -> None:
    federation = build(archive, sites=17, partition="natural", site_key="ward")
    assert federation.site_names == ("east", "north", "west")
    for k in range(3):
        assert np.array_equal(federation.train_rows[k], np.arange(k, 300, 3))
        assert np.array_equal(federation.test_rows[k], np.arange(k, 60, 3))


def test_natural_needs_sites() -> None:
    experiment = Experiment(dataset="digits").replace(partition="natural")
    with pytest.raises(UserError, match="dataset 'digits' names no sites"):
        build_federation(experiment)


def test_each_site_draws_from_its_own_stream() -> None:
    labels = np.repeat(np.arange(3), 40)
    counts = np.array([[10, 5, 0], [10, 5, 0]])
    first, second = local_test_rows("keep-classes", counts, labels, ("a", "b"), 0)
    assert not np.array_equal(first, second)
    (alone,) = local_test_rows("paper", counts[:1] * 2, labels, ("a",), 0)
    (again,) = local_test_rows("paper", counts[:1] * 2, labels, ("a",), 0)
    assert np.array_equal(alone, again)


def test_the_default_experiment() -> None:
    federation = build_federation(Experiment(sites=8, imbalance_factor=20))
    assert federation.site_names == tuple(f"site-0{k}" for k in range(8))
    assert (np.diff(federation.class_counts[1:]) <= 0).all()
    assert load_dataset(Experiment(sites=3)) is federation.dataset


@pytest.mark.skipif(not (SHARED / "ham10000").is_dir(), reason="needs ../shared/data")
def test_real_hospitals() -> None:
    federation = build_federation(
        Experiment(
            dataset="npz",
            data_dir=SHARED / "ham10000" / "ham10000.npz",
            partition="natural",
            site_key="center",
            group_key="lesion",
        )
    )
    assert federation.site_names == ("rosendahl", "vidir_modern", "vidir_molemax", "vienna_dias")
    assert federation.train_counts.sum() == 8024
    assert federation.test_counts.sum() == 1991
    assert (federation.train_counts.sum(1) + federation.test_counts.sum(1)).tolist() == [
        2259,
        3363,
        3954,
        439,
    ]
