"""The split of a list that names none: by label, by patient, of no seed and no order, and kept when data are added."""

import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.sources.splits import draw_splits, read_splits, write_splits

ErrorOf = Callable[[Callable[[], object]], str]
SEEDS = st.integers(0, 2**31)


def names_of(count: int) -> list[str]:
    return [f"scan {i}.png" for i in range(count)]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=120), st.floats(0, 0.9))
def test_every_class_gets_its_share(classes: list[str], share: float) -> None:
    splits = draw_splits(names_of(len(classes)), [(c,) for c in classes], share=share)
    tested = Counter(c for c, split in zip(classes, splits, strict=True) if split == "test")
    for c, size in Counter(classes).items():
        expected = min(max(round(share * size), 1), size - 1) if share else 0
        assert abs(tested[c] - expected) <= (share * size % 1 == 0.5)


@st.composite
def lists(draw: st.DrawFn) -> tuple[list[tuple[str, ...]], list[str]]:
    generator = np.random.default_rng(draw(SEEDS))
    count, multilabel = draw(st.integers(2, 60)), draw(st.booleans())
    shares = generator.choice([0.05, 0.3, 0.7], 4)
    labels = [
        tuple(w for w, p in zip("abcd", shares, strict=True) if generator.random() < p)
        if multilabel
        else (str(generator.choice(list("abcd"))),)
        for _ in range(count)
    ]
    return labels, [f"p{generator.integers(count)}" for _ in range(count)]


@given(lists(), st.floats(0.05, 0.6), SEEDS)
def test_patients_are_whole_and_the_order_of_rows_does_not_matter(
    data: tuple[list[tuple[str, ...]], list[str]], share: float, seed: int
) -> None:
    labels, patients = data
    multilabel = any(len(of) != 1 for of in labels)
    names, sites = names_of(len(labels)), [f"s{len(p)}" for p in patients]
    splits = draw_splits(names, labels, patients, sites, share, multilabel=multilabel)
    sides: dict[str, set[str]] = {}
    for patient, split in zip(patients, splits, strict=True):
        sides.setdefault(patient, set()).add(split)
    assert all(len(side) == 1 for side in sides.values())
    mixed = np.random.default_rng(seed).permutation(len(names)).tolist()
    again = draw_splits(
        *([column[row] for row in mixed] for column in (names, labels, patients, sites)), share, multilabel=multilabel
    )  # type: ignore[misc]
    assert again == [splits[row] for row in mixed]


@given(lists(), SEEDS)
def test_what_is_kept_stays_and_later_images_follow_their_patient(
    data: tuple[list[tuple[str, ...]], list[str]], seed: int
) -> None:
    labels, patients = data
    multilabel = any(len(of) != 1 for of in labels)
    names, first = names_of(len(labels)), max(1, len(labels) // 2)
    before = draw_splits(names[:first], labels[:first], patients[:first], share=0.3, multilabel=multilabel)
    kept = dict(zip(names[:first], before, strict=True))
    after = draw_splits(names, labels, patients, share=0.3, kept=kept, multilabel=multilabel)
    assert after[:first] == before
    side = dict(zip(patients[:first], before, strict=True))
    assert all(
        side.get(patient, split) == split for patient, split in zip(patients[first:], after[first:], strict=True)
    )


def test_without_a_share_a_patient_who_tests_goes_on_testing() -> None:
    kept = {"scan 0.png": "test"}
    splits = draw_splits(names_of(3), [("a",)] * 3, ["p", "p", "q"], share=0, kept=kept)
    assert splits == ["test", "test", "train"]


@given(st.lists(st.sampled_from("ab"), min_size=2, max_size=80), st.text(min_size=1, max_size=8))
def test_an_added_image_moves_one_other_at_most(classes: list[str], name: str) -> None:
    names = names_of(len(classes))
    before = draw_splits(names, [(c,) for c in classes])
    after = draw_splits([*names, name], [*((c,) for c in classes), ("a",)])
    assert sum(a != b for a, b in zip(before, after, strict=False)) <= 1


def test_images_with_several_labels_share_out_the_rare_ones() -> None:
    generator = np.random.default_rng(0)
    labels = [
        tuple(w for w, p in zip("abc", (0.5, 0.2, 0.02), strict=True) if generator.random() < p) for _ in range(500)
    ]
    splits = draw_splits(names_of(500), labels, multilabel=True)
    for word in "abc":
        having = [split for of, split in zip(labels, splits, strict=True) if word in of]
        assert abs(having.count("test") / len(having) - 0.2) < 0.08


def test_a_patient_who_was_split_before_they_were_named_is_refused(error_of: ErrorOf) -> None:
    kept = {"scan 0.png": "train", "scan 1.png": "test"}
    message = error_of(lambda: draw_splits(names_of(2), [("a",), ("b",)], ["p", "p"], kept=kept))
    assert "patient 'p' has images in training and in test" in message and "remove the earlier one" in message


def test_what_is_written_is_read_again_by_its_owner_alone(tmp_path: Path, error_of: ErrorOf) -> None:
    path = tmp_path / "state" / "splits-west.csv"
    assert read_splits(path) == {}
    write_splits(path, ("image", "split"), [("a, b.png", "train"), ('"c".png', "test")])
    assert read_splits(path) == {"a, b.png": "train", '"c".png': "test"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    path.write_text("image,split\na.png,maybe\n")
    assert "splits-west.csv:2: split is neither train nor test: put back an earlier copy" in error_of(
        lambda: read_splits(path)
    )


@pytest.mark.parametrize("share", [0, 0.2])
def test_no_image_and_one_image(share: float) -> None:
    assert draw_splits([], [], share=share) == [] and draw_splits(["x"], [("a",)], share=share) == ["train"]
