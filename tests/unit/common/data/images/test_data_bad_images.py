"""Images that cannot be read: all named at once, or left out by name as far as the experiment allows."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.config import Experiment
from common.data import Dataset, load_dataset
from common.data.images.bad_images import BadImagesError

ErrorOf = Callable[[Callable[[], object]], str]


def folder_of(root: Path, images: int = 6) -> Path:
    for side in ("train", "test"):
        for i in range(images):
            path = root / side / ("cat", "dog")[i % 2] / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4), 10 * i, np.uint8)).save(path)
    return root


def experiment_of(root: Path, skip: int = 0) -> Experiment:
    return Experiment(dataset="image-folder", data_dir=root, skip_bad_images=skip)


def left_out(data: Dataset) -> list[str]:
    return [note for note in data.notes if "left out" in note]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def test_all_bad_images_of_both_sides_are_named_at_once(tmp_path: Path, error_of: ErrorOf) -> None:
    folder_of(tmp_path)
    (tmp_path / "train/cat/00.png").write_bytes(b"no image")  # the first one
    truncate(tmp_path / "train/dog/03.png")
    (tmp_path / "test/dog/05.png").write_bytes(b"")
    message = error_of(lambda: load_dataset(experiment_of(tmp_path)))
    assert message.startswith("3 of 12 images cannot be read: ")
    for name in ("train/cat/00.png", "train/dog/03.png", "test/dog/05.png"):
        assert str(tmp_path / name) in message
    assert message.endswith("or set skip-bad-images: 3 to train without")
    message = error_of(lambda: load_dataset(experiment_of(tmp_path, 2)))
    assert message.startswith("3 of 12 images cannot be read (skip-bad-images: 2): ")


def test_as_many_as_allowed_are_left_out_by_name(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "train/cat/00.png").write_bytes(b"no image")
    truncate(tmp_path / "test/dog/05.png")
    data = load_dataset(experiment_of(tmp_path, 2))
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1] and data.test.labels.tolist() == [0, 0, 0, 1, 1]
    assert sorted(data.train.batch(np.arange(5))[:, 0, 0, 0].tolist()) == [10, 20, 30, 40, 50]
    (note,) = left_out(data)
    assert note.startswith(
        "2 images are left out, as they cannot be read (skip-bad-images: 2): train/cat/00.png: not a"
    )
    assert "test/dog/05.png" in note and str(tmp_path) not in note


def test_only_the_first_twenty_are_named(tmp_path: Path, error_of: ErrorOf) -> None:
    folder_of(tmp_path, 26)
    for path in list(tmp_path.rglob("*.png")):
        if path.stem != "00":
            path.write_bytes(b"no image")
    message = error_of(lambda: load_dataset(experiment_of(tmp_path)))
    assert (
        message.startswith("50 of 52 images") and message.count("of no known kind") == 20 and "; and 30 more" in message
    )


def test_patients_and_sites_keep_their_images(tmp_path: Path) -> None:
    folder_of(tmp_path)
    lines = [
        f"{side}/{('cat', 'dog')[i % 2]}/{i:02}.png,{side},{('cat', 'dog')[i % 2]},{side}{i},{'ab'[i // 3]}"
        for side in ("train", "test")
        for i in range(6)
    ]
    (tmp_path / "manifest.csv").write_text("\n".join(["image,split,label,patient,site", *lines]))
    (tmp_path / "train/dog/01.png").write_bytes(b"no image")
    data = load_dataset(Experiment(dataset="manifest", data_dir=tmp_path, skip_bad_images=1))
    assert data.train.labels.tolist() == [0, 0, 1, 0, 1]
    assert data.train_sites is not None and data.train_sites.tolist() == [0, 0, 1, 1, 1]
    assert data.train_groups is not None and len(set(data.train_groups.tolist())) == 5
    assert "manifest.csv:3" in left_out(data)[0]


def test_rows_of_an_archive(tmp_path: Path, error_of: ErrorOf) -> None:
    files = []
    for i in range(8):
        stream = io.BytesIO()
        Image.fromarray(np.full((4, 4), 10 * i, np.uint8)).save(stream, "PNG")
        files.append(stream.getvalue() if i not in (0, 5) else b"no image")
    np.savez(
        tmp_path / "x.npz",
        jpeg=np.frombuffer(b"".join(files), np.uint8),
        offset=np.cumsum([0, *map(len, files)]),
        y=[0, 1] * 4,
        is_test=[False] * 5 + [True] * 3,
        hospital=[0, 0, 1, 1, 1, 2, 2, 2],
    )
    keys = {"dataset": "npz", "data_dir": tmp_path, "site_key": "hospital"}
    message = error_of(lambda: load_dataset(Experiment.model_validate(keys)))
    assert message.startswith("2 of 8 images cannot be read: ")
    assert "x.npz: jpeg[0]" in message and "x.npz: jpeg[5]" in message
    data = load_dataset(Experiment.model_validate(keys | {"skip_bad_images": 2}))
    assert data.train.labels.tolist() == [1, 0, 1, 0] and data.test.labels.tolist() == [0, 1]
    assert data.train_sites is not None and data.train_sites.tolist() == [0, 1, 1, 1]
    (note,) = left_out(data)
    assert note.startswith("2 images are left out") and str(tmp_path) not in note


def test_nothing_is_left_of_a_side(tmp_path: Path) -> None:
    folder_of(tmp_path)
    for path in (tmp_path / "test").rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(BadImagesError, match="6 of 6 images cannot be read: ") as caught:
        load_dataset(experiment_of(tmp_path, 100))
    assert "or set" not in str(caught.value)


def test_an_animation_says_that_its_first_frame_is_used(tmp_path: Path) -> None:
    for path in folder_of(tmp_path).rglob("00.png"):
        Image.new("RGB", (4, 4)).save(path)  # the first one decides
    frames = [Image.new("L", (4, 4), grey) for grey in (7, 200)]
    for name, form in (("a.gif", "GIF"), ("b", "PNG"), ("c.webp", "WEBP")):
        frames[0].convert("RGB").save(tmp_path / "train/cat" / name, form, save_all=True, append_images=frames[1:])
    Image.new("L", (4, 4)).save(tmp_path / "train/cat/d.gif")
    data = load_dataset(Experiment(dataset="image-folder", data_dir=tmp_path, image_size=4))
    assert "3 animated images: the first frames are used (train/cat/a.gif, train/cat/b, train/cat/c.webp)" in data.notes
