"""A site's own images: manifests, folders and archives, in the experiment's classes and channels, split for good."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client_app.site.config import SiteConfig
from client_app.site.data import load_labelled_data, load_site_data
from client_app.site.listing import list_images
from common.config import Experiment
from common.data import load_dataset
from common.errors import UserError

ErrorOf = Callable[[Callable[[], object]], str]
Write = Callable[..., Path]
Site = Callable[..., SiteConfig]
Deployed = Callable[..., Experiment]
COLOUR = np.tile(np.array([200, 100, 0], np.uint8), (9, 9, 1))


def test_labels_are_in_the_experiments_order(images: Write, site: Site, deployed: Deployed) -> None:
    images("image,split,label", "b.png,train,fox", "a.png,train,Hund", "c.png,test,cat")
    data = load_site_data(site(class_map={"Hund": "dog"}), deployed())
    assert data.name == "west" and data.classes == ("cat", "dog", "fox")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([1, 2], [0])  # by name, not by row
    assert data.train.batch(np.arange(2))[:, 0, 0, 0].tolist() == [1, 0]
    assert data.train_groups is None


def test_several_labels_as_words_or_columns(images: Write, site: Site, deployed: Deployed) -> None:
    experiment = deployed(method="fednca_ml")
    expected = [[True, False, True], [False, False, False]]
    images("image,split,labels", 'a.png,train,"fox; cat"', "b.png,train,")
    assert load_site_data(site(), experiment).train.labels.tolist() == expected
    images("image,split,Fuchs,cat,age,dog", "a.png,train,1,1,70,0", "b.png,train,0,0,,0")
    assert load_site_data(site(class_map={"Fuchs": "fox"}), experiment).train.labels.tolist() == expected
    images("image,split,label", "a.png,train,fox")  # one label is a case of several
    assert load_site_data(site(), experiment).train.labels.tolist() == [[False, False, True]]


def test_a_class_without_a_column_is_not_labelled(images: Write, site: Site, deployed: Deployed) -> None:
    experiment = deployed(method="fednca_ml")
    images("image,Fuchs,cat", "a.png,1,0", "b.png,0,1")
    visible = load_labelled_data(site(class_map={"Fuchs": "fox"}), experiment)[1]
    assert visible is not None and visible.tolist() == [True, False, True]
    for header, row in (
        ("image,fox,cat,dog", "a.png,1,0,0"),
        ("image,labels", "a.png,cat"),
        ("image,label", "a.png,cat"),
    ):
        images(header, row)
        assert load_labelled_data(site(), experiment)[1] is None


def test_names_that_cannot_be_shown_are_refused(
    site: Site, deployed: Deployed, tmp_path: Path, error_of: ErrorOf
) -> None:
    (tmp_path / "data" / "cat").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "data" / "cat" / "x.png")
    (tmp_path / "data" / "cat" / "x.png").rename(tmp_path / "data" / "cat" / os.fsdecode(b"\xff.png"))
    message = error_of(lambda: load_site_data(site(), deployed()))
    assert message.startswith(r"'cat/\udcff.png': its name has characters that are not UTF-8")


def test_a_method_for_one_class_refuses_several(
    images: Write, site: Site, deployed: Deployed, error_of: ErrorOf
) -> None:
    images("image,labels", "a.png,cat|dog")
    message = error_of(lambda: load_site_data(site(), deployed(method="fedloge")))
    assert message == (
        "site 'west': images have several labels each, but one each in this experiment (method = 'fedloge'): all "
        "sites must have one label an image, or the coordinator must choose a method for several labels"
    )
    message = error_of(lambda: load_site_data(site(), deployed(method="fedavg")))
    assert message.endswith("or the coordinator must set labels: many")
    agreed = load_site_data(site(), deployed(method="fedavg", labels="many"))
    assert agreed.train.labels.tolist() == [[True, True, False]]


@pytest.mark.parametrize(("mean", "channels"), [([0.5], 1), ([0.4, 0.5, 0.6], 3)])
def test_the_experiment_decides_between_grey_and_colour(
    mean: list[float], channels: int, images: Write, site: Site, deployed: Deployed
) -> None:
    images("image,split,label", "a.png,train,cat", "b.png,train,dog", b=COLOUR)
    data = load_site_data(site(), deployed(pixel_mean=mean, pixel_std=[0.25]))
    pixels = data.train.batch(np.arange(2)).numpy()
    assert pixels.shape == (2, channels, 8, 8) and data.test.batch(np.arange(0)).shape == (0, channels, 8, 8)
    assert data.mean == (tuple(mean) if channels == 3 else (0.5,)) and data.std == (0.25,) * channels
    assert pixels[0, :, 0, 0].tolist() == [0] * channels
    assert pixels[1, :, 4, 4].tolist() == ([200, 100, 0] if channels == 3 else [118])  # ITU-R 601


def test_files_of_any_kind_and_size(images: Write, site: Site, deployed: Deployed) -> None:
    folder = images("image,split,label", "a.jpg,train,cat", "b.tif,train,dog", "c.webp,test,fox", "d.bmp,train,cat")
    Image.fromarray(np.full((30, 9, 3), 77, np.uint8)).save(folder / "a.jpg")
    deep = np.linspace(0, 50000, 8, dtype=np.uint16)[None].repeat(8, 0)
    Image.fromarray(deep).save(folder / "b.tif")
    Image.new("RGBA", (40, 41), (9, 9, 9, 255)).save(folder / "c.webp", lossless=True)
    Image.new("1", (3, 4), 1).save(folder / "d.bmp")
    data = load_site_data(site(), deployed())
    pixels = data.train.batch(np.arange(3)).numpy()
    assert np.abs(pixels[0].astype(int) - 77).max() <= 2  # JPEG is not exact
    assert pixels[1, 0, 0].tolist() == [round(255 * int(x) / 50000) for x in deep[0]]
    assert (pixels[2] == 255).all() and (data.test.batch(np.arange(1)) == 9).all()


def test_strange_quoting(images: Write, site: Site, deployed: Deployed) -> None:
    folder = images("image,label,note", "a.png,cat,x", "sub/b c.png,dog,x")
    Image.new("L", (9, 9)).save(folder / "c, 'd'.png")
    text = '\ufeffimage , "label",note\r\n"a.png","cat","two\r\nlines, ""quoted"""\r\n'
    text += "sub/b c.png,dog,\r\n\r\n\"c, 'd'.png\", fox ,\r\n"
    (folder / "manifest.csv").write_text(text, encoding="utf-8", newline="")
    data = load_site_data(site(test_share=0), deployed())
    assert data.train.labels.tolist() == [0, 2, 1]


def test_folders_of_classes(site: Site, deployed: Deployed, tmp_path: Path) -> None:
    for i in range(30):
        path = tmp_path / "data" / ("cat", "fox", "other")[i % 3] / "deep" / f"{i:02}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8 + i, 9)).save(path)
    data = load_site_data(site(class_map={"other": "dog"}), deployed())
    assert len(data.train) + len(data.test) == 30 and 0 < len(data.test) < 15
    assert set(data.train.labels.tolist()) == {0, 1, 2}
    for side in ("train", "test"):
        (tmp_path / "data" / side).mkdir()
    for i, folder in enumerate(("cat", "fox", "other")):
        (tmp_path / "data" / folder).rename(tmp_path / "data" / ("train", "test", "test")[i] / folder)
    data = load_site_data(site(class_map={"other": "dog"}), deployed())
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0] * 10, [2] * 10 + [1] * 10)


@pytest.mark.parametrize("there", ["train", "test"])
def test_a_part_without_the_other_is_refused_as_in_a_simulation(
    there: str, site: Site, deployed: Deployed, tmp_path: Path
) -> None:
    path = tmp_path / "data" / there / "cat" / "1.png"
    path.parent.mkdir(parents=True)
    Image.new("L", (8, 8)).save(path)
    words = f"'{there}': called like a side of a split"
    with pytest.raises(UserError, match=words):  # it would be a class of that name
        list_images(site(), None)
    with pytest.raises(UserError, match=words):
        load_dataset(Experiment(dataset="image-folder", data_dir=tmp_path / "data"))
    if there == "train":
        (tmp_path / "data" / "test").mkdir()
        data = load_site_data(site(), deployed())
        assert (len(data.train), len(data.test)) == (1, 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_archives(channels: int, site: Site, deployed: Deployed, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    (tmp_path / "data").mkdir(exist_ok=True)
    patient, is_test = np.array([1, 1, 1, 2, 2, 2]), np.arange(6) > 2
    np.savez(tmp_path / "data" / "x.npz", x=x, y=np.array([0, 1, 1, 0, 1, 0]), is_test=is_test, patient=patient)
    config = site(class_map={"0": "fox", "1": "cat"}, data="data/x.npz")
    data = load_site_data(config, deployed(pixel_mean=[0.5] * channels))
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([2, 0, 0], [2, 0, 2])
    assert data.train_groups is not None and data.train_groups.tolist() == [1, 1, 1]
    images = [Image.fromarray(image).convert("L" if channels == 1 else "RGB") for image in x]
    expected = np.stack([np.asarray(image).reshape(8, 8, channels).transpose(2, 0, 1) for image in images])
    assert np.array_equal(data.train.batch(np.arange(3)).numpy(), expected[:3])
    assert data.classes == ("cat", "dog", "fox") and data.mean == (0.5,) * channels


def test_an_archive_of_unknown_classes_is_refused(
    site: Site, deployed: Deployed, tmp_path: Path, error_of: ErrorOf
) -> None:
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "x.npz", x=np.zeros((2, 8, 8), np.uint8), y=[0, 1], is_test=[False, True])
    message = error_of(lambda: load_site_data(site(data="data/x.npz"), deployed()))
    assert "x.npz: label '0' is no class of the experiment" in message and "class-map: {'0': a class}" in message


@pytest.mark.parametrize(
    ("rows", "keys", "message"),
    [
        (
            ["a.png,cat", "b.png,dgo"],
            {},
            "manifest.csv:3: label 'dgo' is no class of the experiment; did you mean 'dog'?",
        ),
        (["a.png,cat", "b.png,dgo"], {}, "map it with class-map: {'dgo': a class}; classes: cat, dog, fox"),
        (
            ["a.png,cat"],
            {"class_map": {"x": "ca"}},
            "class-map: 'x: ca': the experiment has no class 'ca'; did",
        ),
        (["a.png,cat", "gone.jpg,dog"], {}, "manifest.csv:3: image 'gone.jpg': there is no file"),
        (["a.png,cat", "../site.yaml,dog"], {}, "manifest.csv:3: image '../site.yaml': give a path below"),
        (["a.png,cat"], {"policy": {"min-images": 2}}, "has 1 training images; its policy's min-images is 2"),
    ],
)
def test_mistakes_are_named(
    rows: list[str],
    keys: dict[str, Any],
    message: str,
    images: Write,
    site: Site,
    deployed: Deployed,
    error_of: ErrorOf,
) -> None:
    images("image,label", *rows)
    assert message in error_of(lambda: load_site_data(site(**keys), deployed()))


def test_a_link_out_of_the_folder_is_refused(
    images: Write, site: Site, deployed: Deployed, tmp_path: Path, error_of: ErrorOf
) -> None:
    folder = images("image,label", "a.png,cat", "sub/b.png,dog")
    (tmp_path / "elsewhere").mkdir()
    (folder / "sub" / "b.png").rename(tmp_path / "elsewhere" / "b.png")
    (folder / "sub").rmdir()
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    message = error_of(lambda: load_site_data(site(), deployed()))
    assert "manifest.csv:3: image 'sub/b.png': a link leads out of" in message
    (folder / "sub").unlink()
    (folder / "sub").mkdir()
    (folder / "sub" / "b.png").symlink_to(folder / "a.png")  # within the folder
    load_site_data(site(), deployed())


def test_an_unreadable_image_is_named_with_its_line(
    images: Write, site: Site, deployed: Deployed, error_of: ErrorOf
) -> None:
    folder = images("image,split,label", "a.png,train,cat", "b.png,train,dog")
    (folder / "b.png").write_bytes(b"no image")
    message = error_of(lambda: load_site_data(site(), deployed()).train.batch(np.arange(2)))
    assert "manifest.csv:3: " in message and "not a readable image" in message


def test_a_patient_on_both_sides_is_a_leak(images: Write, site: Site, deployed: Deployed, error_of: ErrorOf) -> None:
    images("image,split,patient,label", "a.png,train,p1,cat", "b.png,test,p1,cat")
    message = error_of(lambda: load_site_data(site(), deployed()))
    assert "manifest.csv:3: patient 'p1' is in test here and in train in line 2: a leak" in message


def test_the_experiment_must_say_what_all_sites_agree_on(
    images: Write, site: Site, deployed: Deployed, error_of: ErrorOf
) -> None:
    images("image,label", "a.png,cat")
    assert "needs 'deployed'" in error_of(lambda: load_site_data(site(), Experiment()))
    assert "needs image-size" in error_of(lambda: load_site_data(site(), deployed(image_size=None)))


def test_splits_do_not_depend_on_the_order_of_rows(images: Write, site: Site, deployed: Deployed) -> None:
    rows = [f"{i:02}.png,p{i % 15},{('cat', 'dog')[i % 2]}" for i in range(40)]
    images("image,patient,label", *rows)
    first = load_site_data(site(), deployed())
    folder = images("image,patient,label")
    (folder / "manifest.csv").write_text("\n".join(["image,patient,label", *reversed(rows)]))
    again = load_site_data(site(), deployed(seed=3))
    assert np.array_equal(
        first.train.batch(np.arange(len(first.train))), again.train.batch(np.arange(len(first.train)))
    )
    assert first.train_groups is not None and first.test_groups is not None
    assert not set(first.train_groups.tolist()) & set(first.test_groups.tolist())
    assert len(first.test) and len(first.train) + len(first.test) == 40


def test_the_split_is_the_simulations_and_is_kept(
    images: Write, site: Site, deployed: Deployed, tmp_path: Path, error_of: ErrorOf
) -> None:
    rows = [f"{i:02}.png,p{i % 15},{('cat', 'dog', 'fox')[i % 3]}" for i in range(40)]
    folder = images("image,patient,label", *rows)
    own = load_site_data(site(), deployed())
    simulated = load_dataset(Experiment(dataset="manifest", data_dir=folder, image_size=8))
    assert simulated.train_names is not None and simulated.test_names is not None
    kept = tmp_path / "state" / "splits-west.csv"
    lines = dict(line.split(",") for line in kept.read_text().splitlines()[1:])
    assert {name for name, split in lines.items() if split == "test"} == set(simulated.test_names)
    assert (len(own.train), len(own.test)) == (len(simulated.train), len(simulated.test))
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    more = [f"{i:02}.png,p{i % 25},{('cat', 'dog', 'fox')[i % 3]}" for i in range(40, 90)]
    images("image,patient,label", *rows, *more)
    load_site_data(site(), deployed(seed=4))
    later = dict(line.split(",") for line in kept.read_text().splitlines()[1:])
    assert len(later) == 90 and {name: later[name] for name in lines} == lines
    kept.write_text("nonsense\n")
    assert "test images may then become training images" in error_of(lambda: load_site_data(site(), deployed()))


def test_a_site_names_images_that_it_has_twice_and_looks_once(
    images: Write, site: Site, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero = np.zeros((4, 4), np.uint8)
    images("Image,split,label", "a.png,train,cat", "b.png,test,cat", "c.png,train,dog", a=zero, b=zero)
    notes = load_site_data(site(), deployed()).notes
    assert notes[0] == "manifest.csv: column 'Image' is taken as 'image'"
    assert "1 image is in training and in test" in notes[1] and "a.png = b.png" in notes[1] and len(notes) == 2
    monkeypatch.setattr("client_app.site.duplicates.equal_files", lambda paths: [])
    assert load_site_data(site(), deployed()).notes == notes  # of the state
    images("Image,split,label", "a.png,train,cat", "b.png,train,cat", "c.png,train,dog", a=zero, b=zero)
    assert len(load_site_data(site(), deployed()).notes) == 1


def test_an_archive_of_a_site_likewise(site: Site, deployed: Deployed, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    x = np.zeros((3, 8, 8), np.uint8)
    x[1] = 9
    np.savez(tmp_path / "data" / "x.npz", x=x, y=[0, 1, 0], is_test=[False, False, True], class_names=["cat", "dog"])
    (note,) = load_site_data(site(data="data/x.npz"), deployed()).notes
    assert "1 image is in training and in test" in note and "x[0] = x[2]" in note


def test_labels_that_look_like_a_class_are_refused_by_their_row(
    images: Write, site: Site, deployed: Deployed, error_of: ErrorOf
) -> None:
    images("image,label", "a.png,cat", "b.png,Dog")
    message = error_of(lambda: load_site_data(site(), deployed()))
    assert "manifest.csv:3: label 'Dog' is no class of the experiment; did you mean 'dog'?" in message
    images("image,labels", "a.png,cat", 'b.png,"cat, dog"')
    message = error_of(lambda: load_site_data(site(), deployed(method="fednca_ml")))
    assert "label 'cat, dog' is no class of the experiment; did you mean 'cat|dog'?" in message
    images("image,label", "a.png,cat", "b.png,ca\u0301t")  # composed alike at once
    assert "did you mean 'cat'?" in error_of(lambda: load_site_data(site(), deployed()))
