"""Digits, image folders, published lists and torchvision's layouts, on small files made here."""

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.config import Experiment
from common.data import build_federation, load_dataset
from common.errors import UserError

RNG = np.random.default_rng(0)


def save(path: Path, *size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, size or (8, 8, 3), dtype=np.uint8)).save(path)


def test_digits() -> None:
    data = load_dataset(Experiment(dataset="digits", seed=1))
    assert (len(data.train), len(data.test), data.train.size) == (1497, 300, (8, 8))
    assert np.bincount(data.test.labels).tolist() == [30] * 10
    pixels = data.train.batch(np.arange(1497)).numpy()
    assert (pixels.min(), pixels.max()) == (0, 255)
    # Together the two sides are scikit-learn's images, each once.
    from sklearn.datasets import load_digits

    both = np.concatenate([pixels, data.test.batch(np.arange(300)).numpy()]).reshape(1797, 64)
    original = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    assert np.array_equal(both[np.lexsort(both.T)], original[np.lexsort(original.T)])
    assert load_dataset(Experiment(dataset="digits", seed=2)) is data
    assert load_dataset(Experiment(dataset="digits", image_size=12)).train.size == (12, 12)


def test_image_folder(tmp_path: Path) -> None:
    for name in (
        "train/cat/1.png",
        "train/cat/deep/2.JPG",
        "train/dog/3.png",
        "test/cat/4.png",
        "test/elk/5.png",
    ):
        save(tmp_path / name)
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    data = load_dataset(Experiment(dataset="image-folder", data_dir=tmp_path))
    assert data.classes == ("cat", "dog", "elk")
    assert data.train.labels.tolist() == [0, 0, 1]
    assert data.test.labels.tolist() == [0, 2]
    assert data.train.batch(np.arange(3)).shape == (3, 3, 8, 8)


def test_class_folders_alone_are_split_by_class_whatever_the_seed(tmp_path: Path) -> None:
    for name, images in (("cat", 20), ("dog", 10), ("elk", 2)):
        for i in range(images):
            save(tmp_path / name / f"{i:02}.png")
    data = load_dataset(Experiment(dataset="image-folder", data_dir=tmp_path))
    assert data.classes == ("cat", "dog", "elk") and np.bincount(data.test.labels).tolist() == [4, 2, 1]
    assert data.train_names is not None and data.test_names is not None
    assert not set(data.train_names) & set(data.test_names) and len(data.train_names + data.test_names) == 32
    assert data.notes == ("no folders train and test: a fifth of each class are the test images",)


@pytest.mark.parametrize(("names", "words"), [((), "no images"), (("a/1.png", "b/2.png"), "to spare for testing")])
def test_class_folders_alone_that_cannot_be_split(names: tuple[str, ...], words: str, tmp_path: Path) -> None:
    for name in names:
        save(tmp_path / name)
    with pytest.raises(UserError, match=words):
        load_dataset(Experiment(dataset="image-folder", data_dir=tmp_path))


def test_image_folder_errors(tmp_path: Path) -> None:
    experiment = Experiment(dataset="image-folder", data_dir=tmp_path)
    (tmp_path / "test").mkdir()
    with pytest.raises(UserError, match=r"'test': called like a side of a split"):
        load_dataset(experiment)
    (tmp_path / "train/cat").mkdir(parents=True)
    save(tmp_path / "test/cat/1.png")
    with pytest.raises(UserError, match="train: no images below its class folders"):
        load_dataset(experiment)
    (tmp_path / "train/cat/broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.jpg: not a readable image"):
        load_dataset(experiment)
    save(tmp_path / "train/cat/broken.jpg", 9, 8, 3)
    with pytest.raises(UserError, match="set image-size"):
        load_dataset(experiment)


def test_a_files_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        save(tmp_path / name)
    (tmp_path / "b/2.png").rename(tmp_path / os.fsdecode(b"b/\xff.png"))
    with pytest.raises(
        UserError, match=r"1 file with a name that is not UTF-8: 'b/\\udcff\.png'; rename what is so called"
    ):
        load_dataset(Experiment(dataset="image-folder", data_dir=tmp_path))


def make_imagenet_lt(folder: Path, train_lines: str) -> Experiment:
    for name in ("train/n01/a 1.JPEG", "train/n01/b.JPEG", "train/n02/c.JPEG", "val/d.JPEG"):
        save(folder / name, 12, 10, 3)
    save(folder / "train/n02/grey.JPEG", 20, 10)
    lists = folder / "ImageNet_LT"
    lists.mkdir()
    (lists / "ImageNet_LT_train.txt").write_text(train_lines)
    (lists / "ImageNet_LT_test.txt").write_text("val/d.JPEG 1\n")
    return Experiment(dataset="imagenet-lt", data_dir=folder, image_size=6)


def test_imagenet_lt(tmp_path: Path) -> None:
    experiment = make_imagenet_lt(
        tmp_path, "train/n01/a 1.JPEG 0\ntrain/n01/b.JPEG 0\n\ntrain/n02/c.JPEG 1\ntrain/n02/grey.JPEG 1\n"
    )
    data = load_dataset(experiment)
    assert data.classes == ("n01", "n02")
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.train.batch(np.arange(4)).shape == (4, 3, 6, 6)
    assert data.train_sites is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("train/n01/b.JPEG\n", r"ImageNet_LT_train\.txt:1: expected 'relative/path label'"),
        ("train/n01/b.JPEG 0\nx y\n", r"ImageNet_LT_train\.txt:2: .* found 'x y'"),
        ("train/n01/b.JPEG 1000000000\n", r"ImageNet_LT_train\.txt:1: .* at most 6 digits"),
        ("\n", r"ImageNet_LT_train\.txt: lists nothing"),
        ("train/n01/gone.JPEG 0\n", r"gone\.JPEG: not a readable image"),
    ],
)
def test_imagenet_lt_errors(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_dataset(make_imagenet_lt(tmp_path, lines))
    with pytest.raises(UserError, match=r"no ImageNet_LT_train\.txt in .*missing"):
        load_dataset(Experiment(dataset="imagenet-lt", data_dir=tmp_path / "missing"))


def make_inaturalist(folder: Path, train: str, test: str = "image_id,class,label\nf5,2,z\n") -> Any:
    for i in range(6):
        save(folder / f"train_val_images/Aves/species {i % 2}/f{i}.jpg", 9, 8 + i, 3)
    lists = folder / "inaturalist-user"
    lists.mkdir()
    (lists / "federated_train_user_120k.csv").write_text(train)
    (lists / "test.csv").write_text(test)
    (folder / "other").mkdir()
    (folder / "other" / "test.csv").write_text("another split's list")
    return Experiment(dataset="inaturalist", data_dir=folder, image_size=6)


def test_inaturalist(tmp_path: Path) -> None:
    rows = ["user_id,image_id,class,label", "31,f0,0,q", "4,f1,1,q", "31,f2,0,q", "110,f3,2,q"]
    experiment = make_inaturalist(tmp_path, "\n".join(rows))
    data = load_dataset(experiment)
    assert data.site_names == ("user-004", "user-031", "user-110")
    assert data.train_sites is not None
    assert data.train_sites.tolist() == [1, 0, 1, 2]
    assert data.test_sites is None
    assert data.classes == ("0", "1", "2")
    assert data.test.labels.tolist() == [2]
    assert data.train.batch(np.arange(4)).shape == (4, 3, 6, 6)
    federation = build_federation(experiment.replace(partition="natural"))
    assert [rows.tolist() for rows in federation.train_rows] == [[1], [0, 2], [3]]
    assert [rows.tolist() for rows in federation.test_rows] == [[], [], [0]]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            "user,image_id,class\n1,f0,0\n",
            "no column 'user_id'; expected user_id, image_id, class, found user,",
        ),
        ("user_id,image_id,class\n1,f0,0\n1,f1\n", r"federated_train_user_120k\.csv:3: expected"),
        ("user_id,image_id,class\n1,f0,bird\n", r"federated_train_user_120k\.csv:2: expected"),
        ("user_id,image_id,class\n1,f0,0\n1,f77,0\n", r"1 of 3 images are not below .*, such as f77\.jpg"),
        ("user_id,image_id,class\n1,f0,1000000000\n", r"federated_train_user_120k\.csv:2: .* at most 6 digits"),
        ('user_id,image_id,class\n1,f0,0\n1,"f1,0\n' + "1,f2,0\n" * 20_000, r"120k\.csv:\d+: not readable as CSV"),
        ("user_id,image_id,class\n", "lists no image"),
        ("", "no column 'user_id'; .* found none"),
    ],
)
def test_inaturalist_errors(tmp_path: Path, train: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load_dataset(make_inaturalist(tmp_path, train))
    assert "\n" not in str(raised.value)


def test_lists_in_another_encoding(tmp_path: Path) -> None:
    latin = make_imagenet_lt(tmp_path / "one", "")
    listed = tmp_path / "one/ImageNet_LT/ImageNet_LT_train.txt"
    listed.write_bytes("train/n01/b.JPEG 0\ntrain/épée.JPEG 1\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"^\S+ImageNet_LT_train\.txt:2: not UTF-8 text; save the list as UTF-8$"):
        load_dataset(latin)
    inaturalist = make_inaturalist(tmp_path / "two", "")
    listed = tmp_path / "two/inaturalist-user/federated_train_user_120k.csv"
    listed.write_bytes("user_id,image_id,class\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"^\S+federated_train_user_120k\.csv:1: not UTF-8 text"):
        load_dataset(inaturalist)


def test_inaturalist_users_by_name(tmp_path: Path) -> None:
    train = "user_id,image_id,class\nmia/1,f0,0\nann,f1,1\nmia/1,f2,0\n"
    data = load_dataset(make_inaturalist(tmp_path, train))
    assert data.site_names == ("user-00", "user-01")  # names may hold anything, so they are numbered
    assert data.train_sites is not None
    assert data.train_sites.tolist() == [1, 0, 1]


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_fashion_mnist_in_torchvisions_layout(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    x = RNG.integers(0, 256, (30, 28, 28), dtype=np.uint8)
    y = (np.arange(30) % 10).astype(np.uint8)
    for prefix, part in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(x[part]))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(y[part]))
    data = load_dataset(Experiment(dataset="fashion-mnist", data_dir=tmp_path))
    assert data.classes[9] == "Ankle boot"
    assert np.array_equal(data.train.batch(np.arange(20))[:, 0].numpy(), x[:20])
    assert data.test.labels.tolist() == y[20:].tolist()


def offline(*_: Any, **__: Any) -> None:
    raise OSError("no\nnetwork")


@pytest.mark.parametrize("dataset", ["fashion-mnist", "cifar10", "cifar100"])
def test_neither_data_nor_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Any) -> None:
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(UserError, match=r"the download failed .*no network") as raised:
        load_dataset(Experiment(dataset=dataset, data_dir=tmp_path / "data"))
    assert str(tmp_path / "data") in str(raised.value)
    assert "data-dir" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kept", [3, 9, 2000])
def test_a_file_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr("urllib.request.urlopen", offline)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        content = np.zeros((20, 28, 28) if "images" in name else 20, np.uint8)
        (raw / f"{name}-ubyte").write_bytes(idx(content)[:kept])
    with pytest.raises(UserError, match="fashion-mnist: not whole in"):
        load_dataset(Experiment(dataset="fashion-mnist", data_dir=tmp_path))


def test_cifar10_in_torchvisions_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    x = RNG.integers(0, 256, (6, 4, 3072), dtype=np.uint8)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for name, pixels in zip(names, x, strict=True):
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [0, 1, 2, 9]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    experiment = Experiment(dataset="cifar10", data_dir=tmp_path)
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(UserError, match="cifar10: not whole in"):  # a foreign file is never unpickled
        load_dataset(experiment)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    data = load_dataset(experiment)
    assert data.classes == tuple("abcdefghij")
    assert np.array_equal(data.train.batch(np.arange(20)).numpy(), x[:5].reshape(20, 3, 32, 32))
    assert data.test.labels.tolist() == [0, 1, 2, 9]
