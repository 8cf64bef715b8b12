"""ChestX-ray14, Pascal VOC 2012 and COCO 2017 in their published layouts, on small files made here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.config import Experiment
from common.data import build_federation, load_dataset
from common.data.sources.chestxray14 import FINDINGS
from common.data.sources.voc2012 import CLASSES

ErrorOf = Callable[[Callable[[], object]], str]
RNG = np.random.default_rng(0)


def save(path: Path, *size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, size or (9, 8, 3), dtype=np.uint8)).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def named(data: Any, labels: np.ndarray) -> list[set[str]]:
    return [{data.classes[c] for c in np.flatnonzero(row)} for row in labels]


# --- ChestX-ray14 -----------------------------------------------------------------------------------

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,\n"  # ends so
ENTRIES = (
    "1_000.png,Cardiomegaly|Hernia,0,1,58,M\n"
    "1_001.png,No Finding,1,1,58,M\n"
    "2_000.png,Effusion,0,2,81,F\n"
    "3_000.png,Mass|Effusion,0,3,82,F\n"
    "4_000.png,No Finding,0,4,82,F\n"
)


def chest(root: Path, entries: str = ENTRIES, train: str = "1_000.png\n1_001.png\n2_000.png\n") -> Experiment:
    write(root / "Data_Entry_2017.csv", HEADER + entries)
    write(root / "train_val_list.txt", train)
    write(root / "test_list.txt", "3_000.png\n4_000.png\n")
    for name in ("images_001/images/1_000", "images_001/images/2_000", "images_002/images/3_000", "images/4_000"):
        save(root / f"{name}.png", 16, 12)
    save(root / "images_001/images/1_001.png", 16, 12, 4)  # a few of the published files are RGBA
    return Experiment(dataset="chestxray14", data_dir=root, image_size=8)


def test_chestxray14(tmp_path: Path) -> None:
    data = load_dataset(chest(tmp_path))
    assert data.multilabel and data.classes == FINDINGS and len(FINDINGS) == 14
    assert named(data, data.train.labels) == [{"Cardiomegaly", "Hernia"}, set(), {"Effusion"}]
    assert named(data, data.test.labels) == [{"Mass", "Effusion"}, set()]
    assert data.train_groups is not None and data.train_groups.tolist() == [1, 1, 2]
    assert data.test_groups is not None and data.test_groups.tolist() == [3, 4]
    assert data.train.batch(np.arange(3)).shape == (3, 1, 8, 8)
    made = build_federation(chest(tmp_path).replace(sites=2, min_site_size=0))
    assert sum(map(len, made.train_rows)) == 3


@pytest.mark.parametrize(
    ("entries", "train", "message"),
    [
        (
            ENTRIES.replace("Hernia", "Hernai"),
            None,
            "csv:2: unknown finding 'Hernai' in Finding Labels; did you mean",
        ),
        (ENTRIES.replace("No Finding,1", "nothing,1"), None, "csv:3: unknown finding 'nothing'"),
        (ENTRIES.replace("0,2,81", "0,two,81"), None, "csv:4: expected an Image Index and a number as Patient ID"),
        (ENTRIES.replace("1_001", "1_000"), None, "csv:3: image '1_000.png' a second time"),
        (ENTRIES.replace("1,1,58", "1,3,58"), None, "patient 3 has images in training and in test, 1 such in all"),
        (ENTRIES, "1_000.png\n7_000.png\n", "train_val_list.txt:2: image '7_000.png' is not in Data_Entry_2017.csv"),
        (ENTRIES + "8_000.png,Mass,0,8,1,F\n", "8_000.png\n", "1 of 1 images of a list are not in"),
        (ENTRIES, "\n", "train_val_list.txt: lists nothing"),
        ("", None, "Data_Entry_2017.csv: lists no image"),
    ],
)
def test_chestxray14_errors(tmp_path: Path, entries: str, train: str | None, message: str, error_of: ErrorOf) -> None:
    experiment = chest(tmp_path, entries, **({"train": train} if train else {}))
    assert message in error_of(lambda: load_dataset(experiment))


def test_chestxray14_lists_are_needed(tmp_path: Path, error_of: ErrorOf) -> None:
    message = error_of(lambda: load_dataset(Experiment(dataset="chestxray14", data_dir=tmp_path)))
    assert "no Data_Entry_2017*.csv in" in message


# --- Pascal VOC 2012 --------------------------------------------------------------------------------


def voc(root: Path, **changed: str) -> Experiment:
    names = {"train": ["2008_000001", "2008_000002", "2008_000003"], "val": ["2008_000009"]}
    marks = {"cat": " 1 0-1", "dog": " 1-1-1", "person": "-1 1-1"}
    for part, images in names.items():
        for word in CLASSES:
            given = marks.get(word, "-1" * 3)
            lines = [f"{image} {given[2 * i : 2 * i + 2]}\n" for i, image in enumerate(images)]
            write(root / f"ImageSets/Main/{word}_{part}.txt", changed.get(f"{word}_{part}", "".join(lines)))
        for i, image in enumerate(images):
            save(root / f"JPEGImages/{image}.jpg", 10 + i, 12, 3)
    return Experiment(dataset="voc2012", data_dir=root, image_size=8)


@pytest.mark.parametrize("below", ["VOCdevkit/VOC2012", "VOC2012", "."])
def test_voc2012(tmp_path: Path, below: str) -> None:
    voc(tmp_path / below)
    data = load_dataset(Experiment(dataset="voc2012", data_dir=tmp_path, image_size=8))
    assert data.multilabel and data.classes == CLASSES and len(CLASSES) == 20
    # A cat that is difficult to see (0) is a cat.
    assert named(data, data.train.labels) == [{"cat", "dog"}, {"cat", "person"}, set()]
    assert named(data, data.test.labels) == [{"cat", "dog"}]
    assert data.train.batch(np.arange(3)).shape == (3, 3, 8, 8)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cow_train": "2008_000001 -1\n2008_000002 2\n"}, "cow_train.txt:2: expected 'image mark'"),
        ({"cow_train": "2008_000001 -1\n2008_000002\n"}, "cow_train.txt:2: expected 'image mark'"),
        ({"cow_train": "../2008_000001 -1\n"}, "cow_train.txt:1: expected 'image mark'"),
        ({"cow_val": "2008_000007 -1\n"}, "cow_val.txt:1: image '2008_000007', where "),
        ({"cow_train": "2008_000001 -1\n"}, "cow_train.txt:1: the list ends after 1 images, "),
        ({"cow_val": ""}, "cow_val.txt: lists nothing"),
    ],
)
def test_voc2012_errors(tmp_path: Path, changed: dict[str, str], message: str, error_of: ErrorOf) -> None:
    assert message in error_of(lambda: load_dataset(voc(tmp_path, **changed)))


def test_voc2012_files_are_needed(tmp_path: Path, error_of: ErrorOf) -> None:
    empty = Experiment(dataset="voc2012", data_dir=tmp_path)
    assert "no VOCdevkit/VOC2012/ImageSets/Main" in error_of(lambda: load_dataset(empty))
    experiment = voc(tmp_path)
    (tmp_path / "ImageSets/Main/sofa_val.txt").unlink()
    assert "sofa_val.txt: cannot be read" in error_of(lambda: load_dataset(experiment))


# --- COCO 2017 --------------------------------------------------------------------------------------


def coco_file(part: str, images: int = 3) -> dict[str, Any]:
    found = [(0, 18), (0, 1), (0, 18), (2, 90)]
    return {
        "info": {},
        "images": [{"id": 500 - i, "file_name": f"{part}{i}.jpg"} for i in range(images)],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}],
        "annotations": [
            {"id": n, "image_id": 500 - i, "category_id": c, "iscrowd": n % 2, "segmentation": [[1.0, 2.0]]}
            for n, (i, c) in enumerate(found)
            if i < images
        ],
    }


def coco(root: Path, train: Any = None, val: Any = None) -> Experiment:
    for part, content in (("train2017", train or coco_file("train")), ("val2017", val or coco_file("val", 2))):
        text = content if isinstance(content, str) else json.dumps(content)
        write(root / f"annotations/instances_{part}.json", text)
        for i in range(3):
            save(root / part / f"{part[:-4]}{i}.jpg", 9 + i, 8, 3)
    return Experiment(dataset="coco2017", data_dir=root, image_size=6)


def test_coco2017(tmp_path: Path) -> None:
    data = load_dataset(coco(tmp_path))
    assert data.multilabel and data.classes == ("person", "dog", "toothbrush")  # by category id
    assert named(data, data.train.labels) == [{"dog", "person"}, set(), {"toothbrush"}]
    assert named(data, data.test.labels) == [{"dog", "person"}, set()]
    assert data.train.batch(np.arange(3)).shape == (3, 3, 6, 6)


def changed(section: str, number: int, **values: Any) -> dict[str, Any]:
    content = coco_file("train")
    content[section][number] |= values
    return content


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("{", "instances_train2017.json: not a JSON file"),
        ("[1, 2]", "train2017.json: categories is missing, or no list"),
        ({"categories": [], "images": []}, "train2017.json: categories is empty"),
        (changed("images", 1, id="7"), "train2017.json: images[1].id is '7', expected a whole number"),
        (changed("images", 1, id=True), "images[1].id is True, expected a whole number"),
        (changed("images", 1, id=500), "images[1].id is 500, as another one is"),
        (changed("images", 2, file_name=None), "images[2].file_name is None, expected a text"),
        (changed("images", 2, file_name="../x.jpg"), "'../x.jpg', which leads out of train2017"),
        (changed("images", 2, file_name="/x.jpg"), "'/x.jpg', which leads out of train2017"),
        (changed("annotations", 3, category_id=17), "annotations[3].category_id is 17, which this file does not list"),
        (changed("annotations", 3, image_id=1), "annotations[3].image_id is 1, which this file does not list"),
        (changed("categories", 0, name="cat"), "the two files name different categories"),
    ],
)
def test_coco2017_errors(tmp_path: Path, train: Any, message: str, error_of: ErrorOf) -> None:
    assert message in error_of(lambda: load_dataset(coco(tmp_path, train)))


def test_coco2017_files_are_needed(tmp_path: Path, error_of: ErrorOf) -> None:
    message = error_of(lambda: load_dataset(Experiment(dataset="coco2017", data_dir=tmp_path)))
    assert "instances_train2017.json: cannot be read" in message


def test_photographs_of_other_sizes_need_image_size(tmp_path: Path, error_of: ErrorOf) -> None:
    experiment = coco(tmp_path).replace(image_size=None)
    assert "set image-size" in error_of(lambda: load_dataset(experiment))
