"""The npz loader: both layouts, sites, groups, and every error it words."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.config import Experiment
from common.data import load_dataset
from common.data.sources import loading
from common.errors import UserError

SHARED = Path(__file__).resolve().parents[6] / "shared" / "data"
RNG = np.random.default_rng(0)
TOO_LARGE = np.array([0, 1, 2, 0, 2**64 - 1, 1], np.uint64)


def arrays(train: int = 12, test: int = 6, **changes: Any) -> dict[str, Any]:
    content = {
        "x_train": RNG.integers(0, 256, (train, 5, 7, 3), dtype=np.uint8),
        "x_test": RNG.integers(0, 256, (test, 5, 7, 3), dtype=np.uint8),
        "y_train": np.arange(train, dtype=np.uint8) % 3,
        "y_test": np.arange(test, dtype=np.uint8) % 3,
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def load(folder: Path, content: dict[str, Any], **settings: Any) -> Any:
    path = folder / "set.npz"
    np.savez(path, **content)
    return load_dataset(Experiment(dataset="npz", data_dir=path, **settings))


def jpegs(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    files = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=95)
        files.append(stream.getvalue())
    return np.frombuffer(b"".join(files), np.uint8), np.cumsum([0, *map(len, files)])


def test_two_parts(tmp_path: Path) -> None:
    content = arrays(class_names=np.array(["a", "b", "c", "d"]))
    data = load(tmp_path, content)
    assert data.classes == ("a", "b", "c", "d")
    assert (len(data.train), len(data.test), data.train.size, data.train.channels) == (12, 6, (5, 7), 3)
    assert np.array_equal(data.train.batch(np.array([2]))[0].numpy(), content["x_train"][2].transpose(2, 0, 1))
    assert data.train.labels.dtype == np.int64
    assert (data.train_sites, data.train_groups, data.site_names) == (None, None, ())
    assert len(data.mean) == len(data.std) == 3


def test_a_folder_with_one_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "only.npz", **arrays())
    assert load_dataset(Experiment(dataset="npz", data_dir=tmp_path)).classes == ("0", "1", "2")
    np.savez(tmp_path / "second.npz", **arrays())
    loading._load.cache_clear()
    with pytest.raises(UserError, match=r"holds 2 \.npz archives \(only\.npz, second\.npz\)"):
        load_dataset(Experiment(dataset="npz", data_dir=tmp_path))
    with pytest.raises(UserError, match="no such file or folder"):
        load_dataset(Experiment(dataset="npz", data_dir=tmp_path / "missing"))


def test_jpeg_bytes_in_two_parts(tmp_path: Path) -> None:
    content = arrays()
    for part in ("train", "test"):
        content[f"jpeg_{part}"], content[f"offset_{part}"] = jpegs(content.pop(f"x_{part}"))
    assert load(tmp_path, content).train.size == (5, 7)
    assert load(tmp_path, content, image_size=4).test.size == (4, 4)
    content["offset_train"] = content["offset_train"] + 1
    with pytest.raises(UserError, match=r"offset_train goes from 1 to"):
        load(tmp_path / "..", content)


def one_part() -> dict[str, Any]:
    x = RNG.integers(0, 256, (10, 6, 6, 3), dtype=np.uint8)
    jpeg, offset = jpegs(x)
    return {
        "jpeg": jpeg,
        "offset": offset,
        "y": np.arange(10) % 2,
        "is_test": np.arange(10) % 5 == 4,
        "center": np.arange(10) % 3,
        "center_names": np.array(["north", "south", "west"]),
        "lesion": np.arange(10) + 100,
    }


def test_one_part_is_split_by_is_test(tmp_path: Path) -> None:
    content = one_part()
    data = load(tmp_path, content, site_key="center", group_key="lesion", partition="natural")
    assert (len(data.train), len(data.test)) == (8, 2)
    assert data.site_names == ("north", "south", "west")
    assert data.train_sites.tolist() == [0, 1, 2, 0, 2, 0, 1, 2]
    assert data.test_sites.tolist() == [1, 0]
    assert data.test_groups.tolist() == [104, 109]
    train_rows = np.flatnonzero(~content["is_test"])
    start, end = content["offset"][train_rows[5]], content["offset"][train_rows[5] + 1]
    expected = np.asarray(Image.open(io.BytesIO(content["jpeg"][start:end].tobytes())))
    assert np.array_equal(data.train.batch(np.array([5]))[0].numpy(), expected.transpose(2, 0, 1))


def test_sites_without_names_are_numbered(tmp_path: Path) -> None:
    content = arrays(ward_train=np.repeat([7, 110], 6), ward_test=np.full(6, 110))
    data = load(tmp_path, content, site_key="ward")
    assert data.site_names == ("ward-007", "ward-110")
    assert data.train_sites.tolist() == [0] * 6 + [1] * 6
    assert data.test_sites.tolist() == [1] * 6
    del content["ward_test"]
    folder = tmp_path / "common-test"
    folder.mkdir()
    assert load(folder, content, site_key="ward").test_sites is None


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"y_train": None}, {}, "no array 'y_train'; .*did you mean"),
        ({"x_train": None}, {}, "no array 'x_train'"),
        ({"x_train": np.zeros((12, 5, 7, 3))}, {}, "x_train is float64 of shape"),
        ({"x_train": np.zeros((12, 35), np.uint8)}, {}, r"x_train is uint8 of shape \(12, 35\)"),
        ({"x_train": np.zeros((11, 5, 7, 3), np.uint8)}, {}, "for 12 labels in y_train"),
        ({"x_test": np.zeros((6, 5, 8, 3), np.uint8)}, {}, "training images are 3×5×7, test images 3×5×8"),
        ({"y_train": np.zeros((12, 4), np.uint8)}, {}, r"y_train has shape \(12, 4\), but y_test \(6,\)"),
        ({"y_test": np.zeros(6)}, {}, "y_test is float64"),
        ({"y_test": np.array([0, 1, -1, 0, 0, 0])}, {}, r"y_test\[2\] is -1, outside 0…17 \(18 images, no"),
        ({"y_train": np.full(12, 10**9)}, {}, r"y_train\[0\] is 1000000000, outside 0…17 \(18 images, no class_names"),
        ({"y_test": np.arange(13, 19)}, {}, r"y_test\[5\] is 18, outside 0…17"),
        ({"y_test": TOO_LARGE}, {}, r"y_test\[4\] is 18446744073709551615, above 9223372036854775807"),
        ({"y_test": TOO_LARGE.astype(">u8")}, {}, r"y_test\[4\] is 18446744073709551615, above 9223372036854775807"),
        ({"c_train": np.arange(12), "c_test": TOO_LARGE}, {"site_key": "c"}, r"c_test\[4\] is 18446744073709551615"),
        ({"class_names": np.array(["a", "b"])}, {}, r"y_train\[2\] is 2, outside 0…1 \(2 classes\)"),
        ({"class_names": np.array(["a", "b", "a"])}, {}, r"class_names\[2\] is 'a', as class_names\[0\] is"),
        ({"class_names": np.array(["a", " ", "c"])}, {}, r"class_names\[1\] is empty"),
        ({"class_names": np.array([], str)}, {}, r"class_names is <U1 of shape \(0,\), expected strings"),
        ({"class_names": np.array([1, 2, 3])}, {}, "class_names is int64 .* expected strings"),
        ({"y_test": np.zeros(0, int), "x_test": np.zeros((0, 5, 7, 3), np.uint8)}, {}, "no test images"),
        ({"class_names": np.array([{}], object)}, {}, "class_names is damaged or holds Python objects"),
        ({}, {"site_key": "center"}, "no array 'center_train'"),
        ({"c_train": np.zeros(11, int)}, {"site_key": "c"}, "c_train has 11 entries for 12 images"),
        (
            {"c_train": np.arange(12), "c_names": np.array(["n", "s"])},
            {"site_key": "c"},
            r"c_train\[2\] is 2, outside 0…1 \(2 sites\)",
        ),
        (
            {"c_train": np.arange(12) % 2, "c_names": np.array(["n", "n"])},
            {"site_key": "c"},
            r"c_names\[1\] is 'n', as c_names\[0\] is",
        ),
        ({"c_train": np.arange(12) % 2, "c_names": np.array(["", "s"])}, {"site_key": "c"}, r"c_names\[0\] is empty"),
        (
            {"p_train": np.arange(12) + 5, "p_test": np.array([30, 9, 31, 7, 32, 33])},
            {"group_key": "p"},
            "p 7 has images in training and in test, 2 such in all: a leak",
        ),
    ],
)
def test_errors_name_file_key_and_row(
    tmp_path: Path, changes: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load(tmp_path, arrays(**changes), **settings)
    assert "set.npz" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_test": np.zeros(10, int)}, "is_test is int64"),
        ({"is_test": np.ones(10, bool)}, "no training images"),
        ({"offset": np.arange(10)}, "offset has 10 entries, expected 11"),
        ({"jpeg": np.zeros(5, float)}, "jpeg is float64"),
        ({"lesion": np.zeros(10, int)}, "lesion 0 has images in training and in test"),
    ],
)
def test_errors_of_the_one_part_layout(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, {**one_part(), **change}, group_key="lesion")


def test_offsets_must_rise(tmp_path: Path) -> None:
    content = one_part()
    content["offset"][3] = content["offset"][2]
    with pytest.raises(UserError, match=r"offset\[3\] is not above"):
        load(tmp_path, content)


@pytest.mark.parametrize("content", [b"", b"nothing", pickle.dumps({"x": 1})])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"set\.npz: not a") as raised:
        load_dataset(Experiment(dataset="npz", data_dir=path))
    assert "pickle" not in str(raised.value)


def test_a_damaged_archive_is_one_line_without_advice_to_unpickle(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **arrays(class_names=np.array(["a", "b", "c"])))
    whole, flips = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[flips.integers(len(whole))] = flips.integers(256)
        path.write_bytes(damaged)
        loading._load.cache_clear()
        try:
            load_dataset(Experiment(dataset="npz", data_dir=path))
        except UserError as error:
            refused += 1
            assert "pickle" not in str(error)
            assert "\n" not in str(error)
    assert refused > 50  # the others: a byte of no account, or the same one


def test_labels_may_reach_the_number_of_images(tmp_path: Path) -> None:
    assert len(load(tmp_path, arrays(y_test=np.arange(12, 18))).classes) == 18


@pytest.mark.skipif(not (SHARED / "fashion-mnist").is_dir(), reason="needs ../shared/data")
def test_real_fashion_mnist() -> None:
    data = load_dataset(Experiment(dataset="npz", data_dir=SHARED / "fashion-mnist"))
    assert (len(data.train), len(data.test), data.train.size, data.train.channels) == (
        60000,
        10000,
        (28, 28),
        1,
    )
    assert data.mean[0] == pytest.approx(0.286, abs=2e-3)
    assert data.std[0] == pytest.approx(0.353, abs=2e-3)
