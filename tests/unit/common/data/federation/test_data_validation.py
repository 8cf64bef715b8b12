"""The validation split: what is held out, that nothing of the test set stays, and federations built on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.config import Experiment
from common.data import Dataset, build_federation, load_dataset
from common.data.federation.validation import SubsetImages, held_out_rows, hold_out
from common.data.images.encoded import FileImages
from common.data.images.source import array_images

ErrorOf = Callable[[Callable[[], object]], str]

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=120).map(lambda values: np.array(values, np.int64))
SHARES = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 50)


def numbered(labels: Any, tests: int = 6, **more: Any) -> Dataset:
    """Make a data set whose training pixels are 0, 1, 2, … (one each) and whose test pixels are all 255."""
    labels = np.asarray(labels, np.int64)
    x = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1)
    train = array_images(np.broadcast_to(x, (len(labels), 2, 2)).copy(), labels)
    test = array_images(np.full((tests, 2, 2), 255, np.uint8), np.zeros(tests, np.int64))
    classes = tuple(str(c) for c in range(int(labels.max()) + 1))
    return Dataset("numbered", classes, train, test, (0.5,), (0.2,), **more)


def rows_of(source: Any) -> list[int]:
    """Which training images these are, told by their pixels."""
    return source.batch(np.arange(len(source)))[:, 0, 0, 0].tolist()


@given(labels=LABELS, share=SHARES, seed=SEEDS)
def test_each_class_gives_its_share_and_at_least_one_but_never_all(labels: np.ndarray, share: float, seed: int) -> None:
    held = held_out_rows(labels, None, None, share, seed)
    assert len(np.unique(held)) == len(held) and (np.diff(held) > 0).all()
    for c, size in enumerate(np.bincount(labels).tolist()):
        wanted = 0 if size < 2 else min(max(round(share * size), 1), size - 1)
        assert (labels[held] == c).sum() == wanted


@given(labels=LABELS, share=SHARES, seed=SEEDS)
def test_the_two_sides_are_the_training_images_each_once(labels: np.ndarray, share: float, seed: int) -> None:
    labels = np.concatenate([labels, labels[:1]])  # so that one can be held out
    dataset = hold_out(numbered(labels), share, seed)
    assert sorted(rows_of(dataset.train) + rows_of(dataset.test)) == list(range(len(labels)))
    for side in (dataset.train, dataset.test):
        assert side.labels.tolist() == labels[rows_of(side)].tolist()
    again = hold_out(numbered(labels), share, seed)
    assert rows_of(again.test) == rows_of(dataset.test)


@given(cells=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=150), share=SHARES)
def test_held_out_images_are_spread_over_the_sites(cells: list[tuple[int, int]], share: float) -> None:
    sites, labels = np.array(cells, np.int64).T
    held = held_out_rows(labels, sites, None, share, 0)
    kept = np.setdiff1d(np.arange(len(labels)), held)
    assert set(sites[kept]) == set(sites)
    assert set(labels[kept]) == set(labels)
    smallest = min(np.bincount(sites)[np.unique(sites)])
    spare = smallest * (1 - share) > 9  # at most two more than the share of each of 4 classes: no site is emptied
    for c in np.unique(labels) if spare else ():
        size = int((labels == c).sum())
        wanted = 0 if size < 2 else min(max(round(share * size), 1), size - 1)
        assert (labels[held] == c).sum() == wanted
        for site in np.unique(sites):
            here = (labels == c) & (sites == site)
            assert abs(here[held].sum() - wanted * here.sum() / size) < 1


def test_a_site_with_one_image_keeps_it() -> None:
    sites = np.array([0, 1, 2, 2, 2, 2])
    for seed in range(20):
        held = held_out_rows(np.zeros(6, np.int64), sites, None, 0.5, seed)
        assert len(held) == 3 and set(sites[held]) == {2}


@given(
    groups=st.lists(st.integers(0, 25), min_size=2, max_size=120),
    share=st.floats(0.05, 0.5),
    seed=SEEDS,
    mixed=st.booleans(),
)
def test_groups_are_held_out_whole(groups: list[int], share: float, seed: int, mixed: bool) -> None:
    group_of = 1000 + np.array(groups, np.int64)
    labels = np.arange(len(groups)) % 3 if mixed else group_of % 3  # several classes a group, or one
    held = held_out_rows(labels, None, group_of, share, seed)
    kept = np.setdiff1d(np.arange(len(labels)), held)
    assert not np.intersect1d(group_of[held], group_of[kept]).size
    assert set(labels[kept]) == set(labels)
    if mixed:
        return
    for c in np.unique(labels):
        sizes = np.unique(group_of[labels == c], return_counts=True)[1]
        wanted = max(round(share * sizes.sum()), 1)
        found = (labels[held] == c).sum()
        assert (found > 0) == (len(sizes) > 1)
        # Nearer by one more group, or by one fewer, it cannot be; but a class has one group at least.
        assert found <= wanted + sizes.max() / 2 or len(np.unique(group_of[held][labels[held] == c])) == 1


def test_many_small_groups_give_the_share_exactly() -> None:
    groups = np.repeat(np.arange(200), 2)
    labels = groups % 4
    held = held_out_rows(labels, groups % 3, groups, 0.2, 0)
    assert np.bincount(labels[held]).tolist() == [20] * 4


def test_nothing_of_the_test_set_stays() -> None:
    dataset = hold_out(numbered(np.arange(60) % 3), 0.2, 0)
    reachable, seen = [dataset], []
    while reachable:  # whatever the data set holds, and what that holds
        value = reachable.pop()
        if isinstance(value, np.ndarray):
            seen.append(value)
        elif isinstance(value, tuple):
            reachable.extend(value)
        elif hasattr(value, "__dict__"):
            reachable.extend(vars(value).values())
    assert any(value.dtype == np.uint8 for value in seen)
    assert not any((value == 255).any() for value in seen)


def test_two_seeds_differ() -> None:
    labels = np.arange(60) % 3
    assert not np.array_equal(held_out_rows(labels, None, None, 0.2, 0), held_out_rows(labels, None, None, 0.2, 1))


def test_sites_groups_and_moments_stay_with_their_images() -> None:
    labels, sites, groups = np.arange(90) % 3, np.arange(90) // 30, np.arange(90) // 2
    dataset = hold_out(
        numbered(labels, train_sites=sites, site_names=("a", "b", "c"), train_groups=groups, test_groups=np.arange(6)),
        share=0.2,
        seed=0,
    )
    assert (dataset.mean, dataset.std, dataset.site_names) == ((0.5,), (0.2,), ("a", "b", "c"))
    sides = (
        (dataset.train, dataset.train_sites, dataset.train_groups),
        (dataset.test, dataset.test_sites, dataset.test_groups),
    )
    for side, side_sites, side_groups in sides:
        assert np.array_equal(side_sites, sites[rows_of(side)])
        assert np.array_equal(side_groups, groups[rows_of(side)])


def test_files_are_not_copied_but_decoded_when_asked(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        Image.new("L", (3, 2), 10 * i).save(path)
    source = SubsetImages(FileImages(paths, np.arange(4)), np.array([3, 1]))
    assert (len(source), source.channels, source.size, source.labels.tolist()) == (2, 1, (2, 3), [3, 1])
    paths[1].unlink()
    assert (source.batch(np.array([0, 0])) == 30).all()


def test_data_without_an_image_to_spare_is_refused(error_of: ErrorOf) -> None:
    message = error_of(lambda: hold_out(numbered([0, 1, 2]), 0.2, 0))
    assert "evaluate-on = 'validation'" in message and "numbered" in message


# --- federations ------------------------------------------------------------------------------------


def test_a_federation_on_validation_images() -> None:
    plain = Experiment(sites=4)
    tuning = Experiment(sites=4, evaluate_on="validation", head_class_size=50, imbalance_factor=5)
    federation = build_federation(tuning)
    whole = load_dataset(plain).train
    sizes = np.bincount(whole.labels)
    assert np.bincount(federation.dataset.test.labels).tolist() == np.rint(0.2 * sizes).astype(int).tolist()
    assert len(federation.dataset.train) + len(federation.dataset.test) == len(whole)
    # The tail is made of what remains, to the same sizes.
    same = build_federation(Experiment(sites=4, head_class_size=50, imbalance_factor=5))
    assert federation.class_counts.tolist() == same.class_counts.tolist()
    assert np.array_equal(federation.test_counts > 0, federation.train_counts > 0)


def test_share_and_seed_make_other_federations() -> None:
    first = build_federation(Experiment(sites=4, evaluate_on="validation"))
    more = build_federation(Experiment(sites=4, evaluate_on="validation", validation_share=0.5))
    assert len(more.dataset.test) > 2 * len(first.dataset.test)
    again = build_federation(Experiment(sites=4, evaluate_on="validation"))  # from the cache, or built anew
    other = build_federation(Experiment(sites=4, evaluate_on="validation", seed=1))
    assert rows_equal(first, again)
    assert not rows_equal(first, other)


def rows_equal(one: Any, other: Any) -> bool:
    pairs = ((one.dataset.train, other.dataset.train), (one.dataset.test, other.dataset.test))
    return all(np.array_equal(a.batch(np.arange(9)), b.batch(np.arange(9))) for a, b in pairs)


def test_natural_sites_validate_on_images_of_their_own(tmp_path: Path) -> None:
    path, rng = tmp_path / "set.npz", np.random.default_rng(0)
    np.savez(
        path,
        x_train=rng.integers(0, 200, (300, 3, 3), dtype=np.uint8),
        x_test=np.full((60, 3, 3), 255, np.uint8),
        y_train=np.arange(300) % 4,
        y_test=np.arange(60) % 4,
        ward_train=np.arange(300) % 3,  # no ward_test: the test images belong to no site
        ward_names=np.array(["east", "north", "west"]),
        patient_train=np.arange(300) // 12,
        patient_test=1000 + np.arange(60) // 12,
    )
    keys = {"dataset": "npz", "data_dir": path, "partition": "natural", "site_key": "ward", "group_key": "patient"}
    federation = build_federation(Experiment(**keys, evaluate_on="validation"))
    dataset = federation.dataset
    assert dataset.test_groups is not None and dataset.train_groups is not None
    assert not np.intersect1d(dataset.train_groups, dataset.test_groups).size
    assert np.array_equal(np.sort(np.concatenate(federation.test_rows)), np.arange(len(dataset.test)))
    assert (federation.test_counts == 5).all()  # a fifth of each ward's 25 images of each class
    assert dataset.test.batch(np.arange(len(dataset.test))).max() < 200


# --- several labels an image ------------------------------------------------------------------------


@st.composite
def label_tables(draw: st.DrawFn) -> np.ndarray:
    """Labels [N, C], with label-free images and classes that no image has."""
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = draw(st.integers(2, 150)), draw(st.integers(2, 8))
    return generator.random(shape) < generator.choice([0.0, 0.03, 0.1, 0.4], shape[1])


@given(labels=label_tables(), share=st.floats(0.05, 0.5), grouped=st.booleans(), sited=st.booleans(), seed=SEEDS)
def test_no_label_loses_its_last_training_image(
    labels: np.ndarray, share: float, grouped: bool, sited: bool, seed: int
) -> None:
    groups = np.arange(len(labels)) // 3 if grouped else None
    sites = np.arange(len(labels)) % 2 if sited else None
    held = held_out_rows(labels, sites, groups, share, seed)
    kept = np.setdiff1d(np.arange(len(labels)), held)
    assert (np.diff(held) > 0).all()
    assert np.array_equal(labels[kept].any(axis=0), labels.any(axis=0))
    assert (~labels[kept].any(axis=1)).any() == (~labels.any(axis=1)).any()
    if groups is not None:
        assert not np.intersect1d(groups[held], groups[kept]).size
    assert np.array_equal(held, held_out_rows(labels, sites, groups, share, seed))


@given(labels=label_tables(), share=st.floats(0.05, 0.5), seed=SEEDS)
def test_each_label_is_held_out_if_an_image_with_it_can_be_spared(labels: np.ndarray, share: float, seed: int) -> None:
    held = held_out_rows(labels, None, None, share, seed)
    left = labels.sum(axis=0) - labels[held].sum(axis=0)
    kept = np.setdiff1d(np.arange(len(labels)), held)
    for c in np.flatnonzero((labels.sum(axis=0) >= 2) & ~labels[held].any(axis=0)):
        spare = [row for row in kept[labels[kept, c]] if (left[labels[row]] > 1).all()]
        assert not spare  # any of them would take some label's last training image


def test_labels_are_held_out_about_by_their_share() -> None:
    labels = np.random.default_rng(0).random((4000, 6)) < [0.5, 0.2, 0.1, 0.05, 0.02, 0.01]
    held = held_out_rows(labels, None, None, 0.2, 0)
    with_none = np.hstack([labels, ~labels.any(axis=1, keepdims=True)])
    shares = with_none[held].sum(axis=0) / with_none.sum(axis=0)
    assert np.abs(shares - 0.2).max() < 0.03


def test_one_hot_labels_are_held_out_as_classes_are() -> None:
    labels = np.arange(100) % 4
    held = held_out_rows(np.eye(4, dtype=bool)[labels], np.arange(100) // 50, None, 0.2, 0)
    assert np.bincount(labels[held]).tolist() == [5] * 4
