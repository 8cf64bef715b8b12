"""Federations of images with several labels: composites, visible labels, counts, natural sites, keys that fit."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from common.config import Experiment, load
from common.data import Federation, build_federation, label_counts, load_dataset
from common.data.federation import build as federation
from common.data.images.source import array_images
from common.data.sources.dataset import Dataset

ErrorOf = Callable[[Callable[[], object]], str]
COMPOSITES = {"composites": 300, "composites_test": 80, "sites": 4}


def build(**keys: Any) -> Federation:
    return build_federation(Experiment(**{**COMPOSITES, **keys}))


@pytest.fixture
def wards(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """200 training and 50 test images with up to three labels at three wards, in place of the digits."""
    generator = np.random.default_rng(0)
    train, test = (
        array_images(generator.integers(0, 256, (n, 4, 4), dtype=np.uint8), generator.random((n, 3)) < 0.4)
        for n in (200, 50)
    )
    data = Dataset(
        *("wards", ("a", "b", "c"), train, test, (0.5,), (0.2,)),
        train_sites=np.arange(200) % 3,
        test_sites=np.arange(50) % 3,
        site_names=("east", "north", "west"),
        train_groups=np.arange(200) // 2,
        test_groups=1000 + np.arange(50),
    )
    federation._build.cache_clear()
    monkeypatch.setattr(federation, "load_dataset", lambda _: data)
    return data


def wards_build(**keys: Any) -> Federation:
    federation._build.cache_clear()
    experiment = Experiment(**{"sites": 4, **{k: v for k, v in keys.items() if k != "partition"}})
    return build_federation(experiment.replace(partition=keys.get("partition", "dirichlet")))


# --- kinds of labels --------------------------------------------------------------------------------


def test_both_kinds_of_labels_are_counted() -> None:
    assert label_counts(np.array([0, 2, 2]), 4).tolist() == [1, 0, 2, 0]
    assert label_counts(np.array([[1, 0], [1, 1], [0, 0]], bool), 2).tolist() == [2, 1]
    assert label_counts(np.zeros((0, 3), bool), 3).dtype == np.int64
    rows = (np.array([0, 1]), np.array([2]), np.array([], np.int64))
    flags = np.array([[1, 0], [1, 1], [0, 0]], bool)
    assert federation.count_classes(rows, flags, 2).tolist() == [[2, 1], [0, 0], [0, 0]]
    assert federation.count_classes(rows, np.array([1, 1, 0]), 2).tolist() == [[0, 2], [1, 0], [0, 0]]


def test_single_label_federations_hide_nothing() -> None:
    plain = build_federation(Experiment(sites=4))
    assert not plain.dataset.multilabel
    assert plain.visible is None and plain.partition_report is None


# --- composites -------------------------------------------------------------------------------------


def test_a_federation_of_composites() -> None:
    made = build(missing_classes=0.3)
    data = made.dataset
    assert data.multilabel and data.name == "digits composites" and data.train.size == (12, 12)
    assert (len(data.train), len(data.test)) == (300, 80)
    assert (data.train.labels.sum(axis=1) == 2).all() and (data.test.labels.sum(axis=1) == 2).all()
    assert made.visible is not None and made.visible.shape == (4, 10)
    assert (made.visible.sum(axis=1) == 7).all()
    assert np.array_equal(np.sort(np.concatenate(made.train_rows)), np.arange(300))  # masked: nothing is dropped
    tests = np.concatenate(made.test_rows)
    assert len(np.unique(tests)) == len(tests)
    assert made.partition_report is not None
    assert made.partition_report["missing_asked"] == pytest.approx(0.3)
    for k, rows in enumerate(made.train_rows):
        assert made.train_counts[k].tolist() == (data.train.labels[rows] & made.visible[k]).sum(axis=0).tolist()
        assert (data.train.labels[rows] & made.visible[k]).any(axis=1).all()
    for k, rows in enumerate(made.test_rows):
        assert made.test_counts[k].tolist() == (data.test.labels[rows] & made.visible[k]).sum(axis=0).tolist()
    assert made.class_counts.tolist() == made.train_counts.sum(axis=0).tolist()


def test_composites_follow_their_keys() -> None:
    first = build()
    assert build(rounds=3, method="fedavg") is first  # what does not concern the data does not rebuild it
    assert build(composite_canvas=2.0).dataset.train.size == (16, 16)
    assert build(image_size=10).dataset.train.size == (10, 10)
    alone = build(composite_single_share=0.5).dataset
    assert (alone.train.labels.sum(axis=1) == 1).sum() == 150
    assert (alone.test.labels.sum(axis=1) == 1).sum() == 40
    assert load_dataset(Experiment(**COMPOSITES, image_size=10)).train.size == (8, 8)  # the images they are made of


def test_test_composites_are_the_same_for_every_seed_and_training_ones_are_not() -> None:
    one, other = (build(seed=seed).dataset for seed in (0, 1))
    rows = np.arange(80)
    assert np.array_equal(one.test.batch(rows), other.test.batch(rows))
    assert np.array_equal(one.test.labels, other.test.labels)
    assert not np.array_equal(one.train.labels, other.train.labels)


def test_the_long_tail_is_made_of_the_images_before_they_are_composed() -> None:
    even, tailed = (build(composites=2000, imbalance_factor=factor).dataset.train.labels for factor in (1.0, 50.0))
    assert label_counts(even, 10).min() > 300
    counts = label_counts(tailed, 10)
    assert counts[0] > 10 * counts[9] > 0


def test_under_strict_everything_is_visible_and_images_may_be_dropped() -> None:
    made = build(missing_classes=0.3, label_rule="strict")
    assert made.visible is not None and made.visible.all()
    assert made.partition_report is not None
    dropped = made.partition_report["dropped"]
    assert sum(map(len, made.train_rows)) == 300 - round(300 * dropped)
    assert made.partition_report["hidden"] == 0


def test_iid_composites_are_dealt_evenly() -> None:
    made = build(partition="iid")
    assert [len(rows) for rows in made.train_rows] == [75] * 4
    assert made.visible is not None and made.visible.all()
    assert made.partition_report is not None
    assert (made.partition_report["missing_asked"], made.partition_report["dropped"]) == (0, 0)


def test_composites_on_validation_images_use_no_test_image(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset(Experiment())
    white = array_images(np.full((300, 8, 8), 255, np.uint8), np.arange(300) % 10)
    marked = Dataset("marked", data.classes, data.train, white, data.mean, data.std)
    federation._build.cache_clear()
    monkeypatch.setattr(federation, "load_dataset", lambda _: marked)
    made = build(evaluate_on="validation").dataset
    federation._build.cache_clear()
    assert len(made.test) == 80
    assert (made.test.batch(np.arange(80)) == 0).flatten(1).any(dim=1).all()  # no canvas full of white


# --- images with several labels of their own ---------------------------------------------------------


def test_natural_sites_keep_their_own_images(wards: Dataset) -> None:
    made = wards_build(partition="natural")
    assert made.site_names == ("east", "north", "west")
    for k in range(3):
        assert np.array_equal(made.train_rows[k], np.arange(k, 200, 3))
        assert np.array_equal(made.test_rows[k], np.arange(k, 50, 3))
        assert made.train_counts[k].tolist() == wards.train.labels[k::3].sum(axis=0).tolist()
    assert made.visible is not None and made.visible.all()
    assert made.partition_report is not None and made.partition_report["dropped"] == 0


def test_simulated_sites_share_no_test_image(wards: Dataset) -> None:
    made = wards_build(missing_classes=0.3)
    assert sum(map(len, made.train_rows)) == 200
    tests = np.concatenate(made.test_rows)
    assert len(np.unique(tests)) == len(tests) > 40


def test_validation_images_of_wards(wards: Dataset) -> None:
    made = wards_build(partition="natural", evaluate_on="validation")
    data = made.dataset
    assert data.multilabel and len(data.train) + len(data.test) == 200
    assert data.train_groups is not None and data.test_groups is not None
    assert not np.intersect1d(data.train_groups, data.test_groups).size
    assert np.array_equal(np.sort(np.concatenate(made.test_rows)), np.arange(len(data.test)))


# --- keys that do not fit -----------------------------------------------------------------------------


def test_keys_for_other_labels_are_refused(wards: Dataset, error_of: ErrorOf) -> None:
    for key, value in (
        ("head-class-size", 10),
        ("imbalance-factor", 5.0),
        ("composites", 100),
        ("local-test", "paper"),
    ):
        message = error_of(partial(wards_build, **{key.replace("-", "_"): value}))
        assert message.startswith(f"{key} = {value}: 'wards' has several labels an image")


def test_keys_for_several_labels_are_refused_on_one(error_of: ErrorOf) -> None:
    for key, value in (("missing-classes", 0.3), ("label-rule", "strict")):
        message = error_of(partial(build_federation, Experiment(**{key.replace("-", "_"): value})))
        assert message.startswith(f"{key} = {value}: 'digits' has one class an image")
    assert error_of(lambda: build(local_test="paper")).startswith("local-test = paper")


def test_the_shipped_composites() -> None:
    made = build_federation(load("configs/digits_multilabel.yaml"))
    assert len(made.site_names) == 8 and (len(made.dataset.train), len(made.dataset.test)) == (1200, 400)
    assert min(map(len, made.train_rows)) >= 10
