"""A site's images: found by their content, read as in a simulation, and left out by name where they cannot be read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client_app.preflight.checks import check_site
from client_app.site.config import SiteConfig
from client_app.site.data import load_site_data
from client_app.site.site import _own_federation
from common.config import Experiment
from common.data import Dataset, load_dataset
from common.data.images.levels import Depth
from common.data.images.source import Interpolation, read_image
from common.errors import UserError

ErrorOf = Callable[[Callable[[], object]], str]
Write = Callable[..., Path]
Site = Callable[..., SiteConfig]
Deployed = Callable[..., Experiment]
GOOD = [f"{i:02}.png,p{i // 2},{'train' if i < 8 else 'test'},{('cat', 'dog', 'fox')[i % 3]}" for i in range(12)]


def test_folders_are_read_by_content_and_what_was_skipped_is_said(
    site: Site, deployed: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for name in ("cat/IM1", "cat/2.ppm", "fox/.ipynb_checkpoints/3.png", "fox/4.jfif", "5.png"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(data / name, {"2.ppm": "PPM", "4.jfif": "JPEG"}.get(Path(name).name, "PNG"))
    (data / "dog").symlink_to("cat")
    note = "2 files skipped: 1 hidden (fox/.ipynb_checkpoints/3.png), 1 in no class's folder (5.png)"
    config = site(test_share=0)
    loaded = load_site_data(config, deployed())
    assert loaded.train.labels.tolist() == [0, 0, 1, 1, 2]  # by name
    assert note in loaded.notes
    assert note in [warning.reason for warning in check_site(config, deployed()).warnings]
    _own_federation(deployed(), tmp_path / "site.yaml", 0.0)
    assert f"{data}: {note}" in capsys.readouterr().out


@pytest.mark.parametrize("depth", ["percentile", "stored"])
def test_a_simulation_and_a_site_read_the_same_pixels(
    depth: Depth, images: Write, site: Site, deployed: Deployed, tmp_path: Path
) -> None:
    folder = images("image,split,label", "a.png,train,cat", "b.png,train,dog", "c.png,test,fox")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 3000, (8, 8), dtype=np.uint16)).save(folder / "a.png")
    layers = [Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)) for _ in range(2)]
    Image.merge("LA", layers).save(folder / "b.png")
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(rng.integers(0, 255, (8, 12), dtype=np.uint8)).save(folder / "c.png", exif=exif)
    at_site = load_site_data(site(), deployed(depth=depth))
    simulated = load_dataset(Experiment(dataset="manifest", data_dir=folder, image_size=8, depth=depth))
    paths = [folder / name for name in ("a.png", "b.png", "c.png")]
    finished = np.stack([read_image(path, 1, (8, 8), depth) for path in paths])
    for data in (at_site, simulated):
        found = np.concatenate([data.train.batch(np.arange(2)).numpy(), data.test.batch(np.arange(1)).numpy()])
        assert np.array_equal(found, finished)


@pytest.mark.parametrize(("backbone", "expected"), [("resnet18", "bilinear"), ("efficientnet_b0", "bicubic")])
def test_a_site_resizes_as_the_weights_of_the_experiment_expect(
    backbone: str, expected: Interpolation, images: Write, site: Site, deployed: Deployed, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    shown = {name: rng.integers(0, 256, (30, 20), dtype=np.uint8) for name in "abc"}
    folder = images("image,split,label", "a.png,train,cat", "b.png,train,dog", "c.png,test,fox", **shown)
    finished = np.stack([read_image(folder / f"{name}.png", 1, (8, 8), interpolation=expected) for name in "abc"])
    stored = np.stack(list(shown.values()))
    arrays = {"x": stored, "y": np.arange(3), "is_test": np.array([False, False, True])}
    np.savez(tmp_path / "data.npz", class_names=np.array(["cat", "dog", "fox"]), **arrays)
    weights = {"backbone": f"torchvision:{backbone}", "weights": "imagenet", "image_size": 8, "width": None}
    sent, other = (deployed(**weights, **more) for more in ({}, {"interpolation": _other(expected)}))
    for config in (site(), site(data="data.npz")):
        differently = _pixels(load_site_data(config, other))  # into the same cache
        assert np.array_equal(_pixels(load_site_data(config, sent)), finished)
        assert not np.array_equal(differently, finished)
    simulated = Experiment(dataset="manifest", data_dir=folder, **weights)
    assert np.array_equal(_pixels(load_dataset(simulated)), finished)


def _other(interpolation: Interpolation) -> Interpolation:
    return "bicubic" if interpolation == "bilinear" else "bilinear"


def _pixels(data: Dataset) -> np.ndarray:
    return np.concatenate([data.train.batch(np.arange(2)).numpy(), data.test.batch(np.arange(1)).numpy()])


def test_bad_images_are_all_named_or_left_out(
    images: Write, site: Site, deployed: Deployed, error_of: ErrorOf, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = images("image,patient,split,label", *GOOD)
    for name in ("01.png", "09.png"):
        (folder / name).write_bytes(b"no image")
    message = error_of(lambda: load_site_data(site(), deployed()))
    assert message.startswith("2 of 12 images cannot be read: ")
    assert "manifest.csv:3: " in message and "manifest.csv:11: " in message
    strict, lenient = (check_site(site(), deployed(skip_bad_images=number)) for number in (1, 2))
    assert [problem.row for problem in strict.problems] == [3, 11]
    assert not lenient.problems and [warning.row for warning in lenient.warnings if warning.kind == "image"] == [3, 11]
    data = load_site_data(site(), deployed(skip_bad_images=2))
    assert (len(data.train), len(data.test)) == (7, 3) and data.train_groups is not None and len(data.train_groups) == 7
    _own_federation(deployed(skip_bad_images=2), tmp_path / "site.yaml", 0.0)
    assert "2 images are left out, as they cannot be read (skip-bad-images: 2): manifest.csv:3: 01.png: not" in (
        capsys.readouterr().out
    )
    policy = site(policy={"min-images": 8})  # a site's own rule is about what can be read
    assert "has 7 training images" in error_of(lambda: load_site_data(policy, deployed(skip_bad_images=2)))


def test_an_animation_is_noted(images: Write, site: Site, deployed: Deployed) -> None:
    folder = images("image,patient,split,label", *GOOD, "x.gif,p9,train,cat")
    frames = [Image.new("L", (9, 9), grey) for grey in (7, 9)]
    frames[0].save(folder / "x.gif", save_all=True, append_images=frames[1:])
    note = "1 animated image: its first frame is used (x.gif)"
    assert note in load_site_data(site(), deployed()).notes
    assert note in [warning.reason for warning in check_site(site(), deployed()).warnings]


def test_class_folders_are_split_as_in_a_simulation(site: Site, deployed: Deployed, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for i in range(24):
        path = data / ("cat", "dog", "fox")[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9), 9 * i).save(path)
    simulated = load_dataset(Experiment(dataset="image-folder", data_dir=data, image_size=8))
    own = load_site_data(site(), deployed())
    assert (len(own.train), len(own.test)) == (len(simulated.train), len(simulated.test))
    kept = (tmp_path / "state" / "splits-west.csv").read_text().splitlines()[1:]
    assert {line.split(",")[0] for line in kept if line.endswith(",test")} == set(simulated.test_names or ())


def test_folders_that_are_called_like_sides_are_refused_as_in_a_simulation(site: Site, tmp_path: Path) -> None:
    for label in ("cat", "dog", "fox"):
        path = tmp_path / "data" / "train" / label / "1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9)).save(path)
    with pytest.raises(UserError, match="'train': called like a side of a split"):
        load_dataset(Experiment(dataset="image-folder", data_dir=tmp_path / "data", image_size=8))
    assert any("'train': called like a side" in problem.reason for problem in check_site(site()).problems)
