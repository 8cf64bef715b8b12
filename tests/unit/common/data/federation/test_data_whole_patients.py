"""Simulated sites get whole patients: nobody at two sites, every image once, classes near to what was drawn."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.config import Experiment
from common.data import build_federation
from common.data.federation import partition
from common.data.federation.multilabel_partition import Rule, deal
from common.data.federation.whole_groups import fill_up
from common.errors import UserError

ErrorOf = Callable[[Callable[[], object]], str]
SEEDS = st.integers(0, 2**31)


def assert_whole(dealt: tuple[np.ndarray, ...], rows: np.ndarray, groups: np.ndarray) -> None:
    together = np.concatenate(dealt)
    assert np.array_equal(np.sort(together), rows)  # each exactly once
    assert all((np.diff(site_rows) > 0).all() for site_rows in dealt)
    homes: dict[int, set[int]] = {}
    for site, site_rows in enumerate(dealt):
        for group in groups[np.searchsorted(rows, site_rows)].tolist():
            homes.setdefault(group, set()).add(site)
    assert all(len(sites) == 1 for sites in homes.values())


@st.composite
def patients(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(draw(SEEDS))
    count, people = draw(st.integers(1, 120)), draw(st.integers(1, 60))
    return generator.integers(0, 5, count), generator.integers(0, people, count) * 7


@given(patients(), st.integers(1, 12), st.sampled_from([0.05, 0.5, 100.0]), SEEDS, st.booleans(), st.integers(0, 4))
def test_nobody_is_at_two_sites(
    data: tuple[np.ndarray, np.ndarray], sites: int, alpha: float, seed: int, even: bool, minimum: int
) -> None:
    labels, groups = data
    rows = np.arange(len(labels)) * 3 + 1

    def dealt() -> tuple[np.ndarray, ...]:
        if even:
            return partition.iid(rows, sites, minimum, seed, groups)
        return partition.dirichlet(rows, labels, sites, alpha, minimum, seed, groups)

    try:
        found = dealt()
    except UserError as error:
        assert minimum and ("lower" in str(error) or "keep-patients: false" in str(error))
        return
    assert len(found) == sites and min(map(len, found)) >= minimum
    assert_whole(found, rows, groups)
    assert all(np.array_equal(a, b) for a, b in zip(found, dealt(), strict=True))
    if even:
        assert max(map(len, found)) - min(map(len, found)) <= max(np.bincount(groups).max(), 1)


@given(SEEDS, st.integers(3, 6), st.sampled_from([0.0, 0.3]), st.sampled_from(["strict", "mask"]), st.integers(0, 3))
def test_of_several_labels_nobody_is_at_two_sites_either(
    seed: int, sites: int, missing: float, rule: Rule, minimum: int
) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(20, 150))
    labels = generator.random((count, 6)) < generator.choice([0.05, 0.2, 0.5], 6)
    groups, rows = generator.integers(0, 40, count), np.arange(count) * 3 + 1
    part = deal(rows, labels, sites, 1.0, missing, rule, 0, seed, groups)
    together = np.sort(np.concatenate(part.rows))
    kept = np.isin(rows, together)
    assert_whole(part.rows, rows[kept], groups[kept])
    if rule == "mask":
        assert kept.all() and part.report.dropped == 0
    for site_rows, support in zip(part.rows, part.supports, strict=True):
        of_site = labels[(site_rows - 1) // 3]
        assert rule == "mask" or not (of_site & ~support).any()
    assert part.report.dropped == pytest.approx(1 - kept.mean())
    try:
        large = deal(rows, labels, sites, 1.0, missing, rule, minimum, seed, groups)
    except UserError as error:
        assert "keep-patients: false" in str(error)
    else:
        assert min(map(len, large.rows)) >= minimum


def test_the_shares_of_classes_stay_near_the_drawn_ones() -> None:
    generator = np.random.default_rng(0)
    people = np.repeat(np.arange(900), generator.integers(1, 5, 900))
    labels = generator.integers(0, 4, 900)[people]  # a lesion has one class
    rows = np.arange(len(people))
    for alpha in (0.1, 1.0, 100.0):
        apart, whole = (partition.dirichlet(rows, labels, 6, alpha, 0, 3, groups) for groups in (None, people))
        counts = [np.stack([np.bincount(labels[r], minlength=4) for r in dealt]) for dealt in (apart, whole)]
        assert np.abs(counts[0] - counts[1]).max() <= 4  # at most the images of a patient
    flags = np.stack([labels == c for c in range(4)], axis=1)
    parts = [deal(rows, flags, 6, 1.0, 0.0, "mask", 0, 3, groups) for groups in (None, people)]
    shares = [np.stack([flags[r].sum(axis=0) for r in part.rows]) for part in parts]
    assert np.abs(shares[0] - shares[1]).max() <= 8


def test_without_patients_nothing_changes() -> None:
    rows, labels = np.arange(200), np.repeat(np.arange(4), 50)
    flags = np.eye(4, dtype=bool)[labels]
    for plain, same in (
        (partition.iid(rows, 5, 1, 0), partition.iid(rows, 5, 1, 0, None)),
        (partition.dirichlet(rows, labels, 5, 1.0, 1, 0), partition.dirichlet(rows, labels, 5, 1.0, 1, 0, None)),
        (deal(rows, flags, 5, 1.0, 0, "mask", 1, 0).rows, deal(rows, flags, 5, 1.0, 0, "mask", 1, 0, None).rows),
    ):
        assert all(np.array_equal(a, b) for a, b in zip(plain, same, strict=True))


def test_too_few_patients_are_named(error_of: ErrorOf) -> None:
    rows = np.arange(20)
    message = error_of(lambda: partition.iid(rows, 4, 1, 0, rows // 10))
    assert "sites = 4: there are 2 patients, each of whom lies at one site" in message
    groups = np.repeat([0, 1, 2], [18, 1, 1])
    message = error_of(lambda: partition.dirichlet(rows, rows % 2, 3, 1.0, 3, 0, groups))
    assert "keep-patients: false" in message
    assert fill_up(np.zeros(20, np.int64), groups, 3, 2) is None


def listed(folder: Path, **keys: object) -> Experiment:
    generator = np.random.default_rng(0)
    rows = []
    for i in range(60):
        Image.fromarray(generator.integers(0, 256, (6, 6), dtype=np.uint8)).save(folder / f"{i:02}.png")
        rows.append(f"{i:02}.png,p{i // 3},{'ab'[i % 2]}")
    (folder / "manifest.csv").write_text("\n".join(["image,patient,label", *rows]))
    return Experiment(dataset="manifest", data_dir=folder, sites=3, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["dirichlet", "iid"])
def test_a_federation_keeps_patients_together_unless_it_is_asked_not_to(tmp_path: Path, how: str) -> None:
    made = build_federation(listed(tmp_path, partition=how))
    groups = made.dataset.train_groups
    assert groups is not None
    assert_whole(made.train_rows, np.arange(len(groups)), groups)
    apart = build_federation(listed(tmp_path, partition=how, keep_patients=False))
    assert sum(len(np.unique(groups[rows])) for rows in apart.train_rows) > len(np.unique(groups))


def test_composites_say_that_patients_do_not_matter_to_them(tmp_path: Path) -> None:
    keys = {"composites": 20, "composites_test": 10}
    notes = build_federation(listed(tmp_path, **keys)).dataset.notes
    assert any("patients are not kept together" in note for note in notes)
    assert not build_federation(listed(tmp_path, keep_patients=False, **keys)).dataset.notes
