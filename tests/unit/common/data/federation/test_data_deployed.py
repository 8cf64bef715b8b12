"""What the coordinator of real sites sees."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.config import Experiment, build
from common.data import build_federation
from common.errors import UserError
from common.wire import experiment_json

ErrorOf = Callable[[Callable[[], object]], str]


def deployed(**changes: object) -> Experiment:
    values = {"partition": "deployed", "classes": ["nevus", "melanoma", "other"], "image-size": 8}
    return build(values | {key.replace("_", "-"): value for key, value in changes.items()})


def write_images(root: Path, *classes: str) -> None:
    for part in ("train", "test"):
        for shade, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            Image.new("L", (8, 8), 10 * shade).save(folder / "one.png")


def test_without_test_images_there_is_nothing_to_see() -> None:
    federation = build_federation(deployed())
    assert len(federation.dataset.train) == len(federation.dataset.test) == 0
    assert federation.site_names == () and federation.class_counts.tolist() == [0, 0, 0]
    assert federation.dataset.classes == ("nevus", "melanoma", "other")


def test_its_test_images_get_the_agreed_order_of_classes_and_no_training_image_is_reachable(tmp_path: Path) -> None:
    write_images(tmp_path, "melanoma", "nevus")
    federation = build_federation(deployed(dataset="image-folder", data_dir=tmp_path, image_size=None))
    dataset = federation.dataset
    assert dataset.classes == ("nevus", "melanoma", "other") and len(dataset.train) == 0
    assert sorted(np.asarray(dataset.test.labels).tolist()) == [0, 1]
    assert dataset.test.batch(np.flatnonzero(dataset.test.labels == 0))[0, 0, 0, 0] == 10  # the nevus
    assert (dataset.mean, dataset.std) == ((0.5,), (0.25,))


def test_a_class_that_nobody_agreed_on_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, "melanom", "nevus")
    with pytest.raises(UserError, match=r"class 'melanom' is not one .* did you mean 'melanoma'\?"):
        build_federation(deployed(dataset="image-folder", data_dir=tmp_path, image_size=None))


def test_colour_images_need_three_means(tmp_path: Path) -> None:
    write_images(tmp_path, "melanoma", "nevus")
    with pytest.raises(UserError, match=r"pixel-mean has 3 value\(s\), .* 1 channel"):
        build_federation(
            deployed(dataset="image-folder", data_dir=tmp_path, pixel_mean=[0.5, 0.5, 0.5], image_size=None)
        )


def test_real_sites_are_not_told_the_coordinators_folders(tmp_path: Path) -> None:
    write_images(tmp_path, "melanoma", "nevus")
    experiment = deployed(dataset="image-folder", data_dir=tmp_path, output_dir=tmp_path / "runs", run_name="pilot")
    assert str(tmp_path) not in experiment_json(experiment) and "pilot" not in experiment_json(experiment)


def test_how_many_labels_an_image_has_is_settled_before_anyone_is_asked(tmp_path: Path) -> None:
    assert [deployed(method=name).agreed_labels for name in ("fedavg", "fedloge", "fednca_ml")] == [
        "one",
        "one",
        "many",
    ]
    assert build_federation(deployed(method="fedavg", labels="many")).dataset.multilabel
    write_images(tmp_path, "melanoma", "nevus")
    own = deployed(
        method="fedavg", labels="many", dataset="image-folder", data_dir=tmp_path, image_size=None
    )  # one label is a case of several
    assert build_federation(own).dataset.test.labels.tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"classes": None}, "needs classes"),
        ({"classes": ["one"]}, "needs classes"),
        ({"classes": ["one", "two", "one"]}, "occurs twice"),
        ({"classes": ["Nevus", "nevus"]}, "class 'nevus' and 'Nevus' look alike: did you mean one of them"),
        ({"classes": ["nevus", "n\u0435vus"]}, "CYRILLIC SMALL LETTER IE"),
        ({"classes": ["a", "b\u202e"]}, "RIGHT-TO-LEFT OVERRIDE"),
        ({"pixel-std": [0.0]}, "deviation of 0"),
        ({"pixel-mean": [0.1, 0.2]}, "one value or three"),
        ({"method": "fedloge", "labels": "many"}, "labels = 'many': method 'fedloge' takes one an image"),
        ({"method": "fednca_ml", "labels": "one"}, "labels = 'one': method 'fednca_ml' takes many an image"),
        ({"label-rule": "strict"}, "label-rule = 'strict': real sites pass no images on"),
    ],
)
def test_impossible_agreements(values: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build({"partition": "deployed", "classes": ["a", "b"], **values})
