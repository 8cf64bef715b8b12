"""Images that are there twice: found whatever they are called, and reading little."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.config import Experiment
from common.data import build_federation, load_dataset
from common.data.sources.duplicates import copies, copy_notes, equal_arrays, equal_files
from common.errors import UserError


def naively(contents: list[bytes]) -> list[list[int]]:
    """Compare each with each."""
    groups: list[list[int]] = []
    for row, content in enumerate(contents):
        for group in groups:
            if contents[group[0]] == content:
                group.append(row)
                break
        else:
            groups.append([row])
    return [group for group in groups if len(group) > 1]


CONTENTS = st.lists(
    st.tuples(st.sampled_from([1, 70, 9000, 20_000]), st.integers(0, 19_999), st.integers(0, 1)), max_size=12
).map(lambda facts: [bytes([bit if i == place else 0 for i in range(size)]) for size, place, bit in facts])


@given(CONTENTS)
def test_equal_files_are_those_that_a_plain_comparison_finds(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / f"{row}.bin" for row in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    assert equal_files(paths) == naively(contents)
    assert equal_files([folder / "gone", folder / "gone too"]) == []


@given(CONTENTS)
def test_equal_arrays_likewise(contents: list[bytes]) -> None:
    assert equal_arrays([np.frombuffer(content, np.uint8) for content in contents]) == naively(contents)


def test_equal_bytes_of_other_shapes_are_no_copies() -> None:
    flat = np.zeros(12, np.uint8)
    assert equal_arrays([flat.reshape(3, 4), flat.reshape(4, 3), flat.reshape(3, 4)]) == [[0, 2]]


def test_of_files_of_one_size_only_equal_samples_are_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    from common.data.sources import duplicates

    whole = duplicates._digest_of_file
    monkeypatch.setattr(duplicates, "_digest_of_file", lambda path: read.append(path) or whole(path))
    paths = [tmp_path / str(i) for i in range(4)]
    for path, first in zip(paths, (0, 1, 2, 2), strict=True):
        path.write_bytes(bytes([first]) + bytes(50_000))
    assert equal_files(paths) == [[2, 3]] and sorted(read) == paths[2:]


def test_what_copies_mean() -> None:
    found = list(copies([[0, 1, 2, 3]], ["train", "test", "train", "train"], lambda a, b: a != 3))
    assert [(copy.row, copy.first, copy.kind) for copy in found] == [(1, 0, "leak"), (2, 0, "twice"), (3, 0, "labels")]
    notes = copy_notes([[0, 1, 2, 3]], ["train", "test", "train", "train"], lambda a, b: a != 3, str)
    assert notes[0].startswith("1 image is in training and in test (a leak") and notes[0].endswith(": 0 = 1")
    assert len(notes) == 3


def listed(folder: Path, *rows: str) -> Experiment:
    for i, name in enumerate("abcde"):
        Image.fromarray(np.full((6, 5), 10 * i, np.uint8)).save(folder / f"{name}.png")
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "manifest.csv").write_text("\n".join(["image,split,label", *rows]))
    return Experiment(dataset="manifest", data_dir=folder, image_size=sum(map(len, rows)) or None)  # read anew


def test_a_run_names_images_that_are_in_training_and_test(tmp_path: Path) -> None:
    rows = ["a.png,train,x", "b.png,train,y", "c.png,test,y", "d.png,test,x"]
    assert load_dataset(listed(tmp_path, *rows)).notes == ()
    (note,) = load_dataset(listed(tmp_path, *rows, "copy.png,test,x")).notes
    assert "1 image is in training and in test" in note and "a.png = copy.png" in note
    assert str(tmp_path) not in note
    (note,) = load_dataset(listed(tmp_path, *rows, "copy.png,train,yy")).notes
    assert "different labels" in note


def test_a_folder_of_images_likewise(tmp_path: Path) -> None:
    listed(tmp_path)
    for place in ("train/x/1.png", "train/y/2.png", "test/x/3.png", "test/y/copy.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        source = "a" if place.endswith(("1.png", "copy.png")) else place[-5]
        Image.fromarray(np.full((6, 5), ord(source), np.uint8)).save(tmp_path / place)
    notes = load_dataset(Experiment(dataset="image-folder", data_dir=tmp_path)).notes
    assert any("train/x/1.png = test/y/copy.png" in note for note in notes)


@pytest.mark.parametrize("files", [False, True])
def test_an_archives_rows_likewise(tmp_path: Path, files: bool) -> None:
    x = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    x[5] = x[1]
    arrays: dict[str, Any] = {"x": x}
    if files:
        for row, image in enumerate(x):
            Image.fromarray(image).save(tmp_path / f"{row}.png")
        contents = [(tmp_path / f"{row}.png").read_bytes() for row in range(6)]
        ends = np.cumsum([0, *map(len, contents)])
        arrays = {"jpeg": np.frombuffer(b"".join(contents), np.uint8), "offset": ends}
    np.savez(tmp_path / "x.npz", y=[0, 1, 0, 1, 0, 1], is_test=np.arange(6) > 3, **arrays)
    (note,) = load_dataset(Experiment(dataset="npz", data_dir=tmp_path / "x.npz", image_size=4)).notes
    assert "1 image is in training and in test" in note
    assert ("jpeg[1] = jpeg[5]" if files else "x[1] = x[5]") in note


def test_folders_that_look_alike_are_refused_and_empty_ones_named(tmp_path: Path) -> None:
    for place in ("train/Nevus/1.png", "train/cat/2.png", "test/nevus/3.png", "test/cat/4.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 5), ord(place[-5]), np.uint8)).save(tmp_path / place)
    with pytest.raises(UserError, match=r"class 'nevus' and 'Nevus' look alike: did you mean one of them\?"):
        load_dataset(Experiment(dataset="image-folder", data_dir=tmp_path))
    (tmp_path / "test" / "nevus").rename(tmp_path / "test" / "Nevus")
    (tmp_path / "train" / "owl").mkdir()
    data = build_federation(Experiment(dataset="image-folder", data_dir=tmp_path, image_size=5, sites=1)).dataset
    assert data.notes == ("no image at all of class 'owl': an empty folder, or a name without images",)
    assert data.train_names == ("train/Nevus/1.png", "train/cat/2.png")
