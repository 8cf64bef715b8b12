"""The npz loader where images carry several labels, and MedMNIST's layout."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import APP_ROOT, Experiment, load
from common.data import build_federation, load_dataset
from common.errors import UserError

SHARED = Path(__file__).resolve().parents[6] / "shared" / "data"
RNG = np.random.default_rng(0)
NAMES = np.array(["Mass", "Edema", "Hernia"])


def arrays(**changes: Any) -> dict[str, Any]:
    content = {
        "x_train": RNG.integers(0, 256, (12, 5, 5), dtype=np.uint8),
        "x_test": RNG.integers(0, 256, (6, 5, 5), dtype=np.uint8),
        "y_train": (np.arange(36).reshape(12, 3) % 5 == 0).astype(np.uint8),
        "y_test": np.arange(18).reshape(6, 3) % 4 == 0,
        "label_names": NAMES,
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def medmnist(labels: int, **changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for part, size in (("train", 9), ("val", 4), ("test", 5)):
        content[f"{part}_images"] = RNG.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        values = RNG.integers(0, 2, (size, labels)) if labels > 1 else np.arange(size)[:, None] % 3
        content[f"{part}_labels"] = values.astype(np.uint8)
    return content | changes


def read(folder: Path, content: dict[str, Any], **settings: Any) -> Any:
    np.savez(folder / "set.npz", **content)
    return load_dataset(Experiment(dataset="npz", data_dir=folder / "set.npz", **settings))


def test_a_column_a_label(tmp_path: Path) -> None:
    content = arrays(patient_train=np.arange(12), patient_test=np.arange(20, 26))
    data = read(tmp_path, content, group_key="patient")
    assert data.multilabel and data.classes == ("Mass", "Edema", "Hernia")
    assert data.train.labels.dtype == data.test.labels.dtype == np.bool_
    assert np.array_equal(data.train.labels, content["y_train"] == 1)
    assert np.array_equal(data.test.labels, content["y_test"])
    assert not data.train.labels.any(axis=1).all()  # images without a label are images, too
    assert data.test_groups.tolist() == list(range(20, 26))


def test_columns_without_names_are_numbered(tmp_path: Path) -> None:
    assert read(tmp_path, arrays(label_names=None)).classes == ("0", "1", "2")


def test_one_part_of_several_labels(tmp_path: Path) -> None:
    whole = arrays()
    is_test = np.arange(12) % 3 == 0
    data = read(tmp_path, {"x": whole["x_train"], "y": whole["y_train"], "is_test": is_test, "class_names": NAMES})
    assert data.classes == tuple(NAMES)
    assert np.array_equal(data.test.labels, whole["y_train"][is_test] == 1)


def test_medmnist_with_several_labels(tmp_path: Path) -> None:
    content = medmnist(14)
    data = read(tmp_path, content)
    assert data.multilabel and len(data.classes) == 14 and data.classes[13] == "13"
    assert (len(data.train), len(data.test), data.train.size) == (9, 5, (28, 28))  # the validation part is not used
    assert np.array_equal(data.train.labels, content["train_labels"] == 1)
    assert np.array_equal(data.test.batch(np.arange(5))[:, 0].numpy(), content["test_images"])


def test_medmnist_with_one_column_has_one_class_an_image(tmp_path: Path) -> None:
    data = read(tmp_path, medmnist(1))
    assert not data.multilabel and data.train.labels.dtype == np.int64
    assert data.train.labels.tolist() == [0, 1, 2] * 3
    assert data.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (arrays(y_train=np.eye(12, 3, dtype=int) * 2), r"y_train\[0, 0\] is 2, expected 0 or 1"),
        (arrays(y_test=np.full((6, 3), -1)), r"y_test\[0, 0\] is -1, expected 0 or 1"),
        (arrays(y_test=np.zeros((6, 3))), r"y_test is float64 of shape \(6, 3\), expected 0 or 1"),
        (arrays(y_test=np.zeros((6, 2), int)), r"y_train has shape \(12, 3\), but y_test \(6, 2\); store both alike"),
        (arrays(y_test=np.zeros(6, int)), r"y_train has shape \(12, 3\), but y_test \(6,\)"),
        (arrays(label_names=NAMES[:2]), "label_names has 2 names for the 3 columns of y_train"),
        (arrays(label_names=None, class_names=NAMES[[0, 0, 1]]), r"class_names\[1\] is 'Mass', as"),
        (arrays(x_train=np.zeros((11, 5, 5), np.uint8)), r"x_train has shape .* for 12 labels in y_train"),
        (arrays(y_test=np.zeros((0, 3), int), x_test=np.zeros((0, 5, 5), np.uint8)), "no test images"),
        (medmnist(14, test_labels=np.zeros((4, 14), int)), "test_images has shape .* for 4 labels in test_labels"),
        (medmnist(14, train_images=np.zeros((9, 4, 4, 4), np.uint8)), "train_images is uint8 of shape"),
    ],
)
def test_errors_name_file_key_and_place(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        read(tmp_path, content)
    assert "set.npz" in str(raised.value)


@pytest.mark.skipif(not (SHARED / "nih-cxr14-1000").is_dir(), reason="needs ../shared/data")
def test_real_chest_x_rays() -> None:
    experiment = load("configs/nih_cxr14.yaml", {"data-dir": str(SHARED / "nih-cxr14-1000")}, base=APP_ROOT)
    made = build_federation(experiment)
    data = made.dataset
    assert (len(data.train), len(data.test), data.train.size, len(data.classes)) == (819, 181, (64, 64), 14)
    assert data.train.labels.sum() + data.test.labels.sum() == 813
    assert len(made.site_names) == 10 and sum(map(len, made.train_rows)) == 819
    assert made.visible is not None and (made.visible.sum(axis=1) == 10).all()
    tuned = build_federation(experiment.replace(evaluate_on="validation")).dataset
    assert tuned.train_groups is not None and tuned.test_groups is not None
    assert not np.intersect1d(tuned.train_groups, tuned.test_groups).size
    assert tuned.test.labels.any(axis=0).all() and tuned.train.labels.any(axis=0).all()


@pytest.mark.skipif(not (SHARED / "voc2012-animals").is_dir(), reason="needs ../shared/data")
def test_real_animals() -> None:
    archive = SHARED / "voc2012-animals" / "voc2012-animals.npz"
    made = build_federation(load("configs/voc_animals.yaml", {"data-dir": str(archive)}, base=APP_ROOT))
    data = made.dataset
    assert (len(data.train), len(data.test), data.train.channels) == (2716, 710, 3)
    assert data.classes[data.train.labels.sum(axis=0).argmax()] == "dog"
    assert data.train.labels[:, 0].sum() + data.test.labels[:, 0].sum() == 0  # no aeroplane
    assert np.concatenate(made.test_rows).size > 690


@pytest.mark.skipif(not (SHARED / "ham10000").is_dir(), reason="needs ../shared/data")
def test_real_composites() -> None:
    archive = SHARED / "ham10000" / "ham10000.npz"
    made = build_federation(load("configs/ham10000_composites.yaml", {"data-dir": str(archive)}, base=APP_ROOT))
    data = made.dataset
    assert (len(data.train), len(data.test), data.train.size, data.train.channels) == (2000, 1000, (28, 28), 3)
    assert (data.train.labels.sum(axis=1) == 2).all()
    assert made.visible is not None and (made.visible.sum(axis=1) == 5).all()
