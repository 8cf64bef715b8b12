"""Where decoded images are kept changes no result: image-memory, image-cache, and JPEG decoded at a smaller scale."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import wire
from common.config import Experiment, build, load
from common.data import Dataset, load_dataset
from common.data.images.decoding import open_image
from common.data.images.encoded import FileImages
from common.data.images.pixel_cache import cache_folder
from common.data.images.source import ArrayImages, fit, read_image
from common.errors import UserError
from server_app.compare.runner import Cell
from server_app.run.journal import Journal
from server_app.run.resuming import run_folder

RNG = np.random.default_rng(0)
SIDE = 256  # 4 + 2 images of 3 channels are more than 1 MiB


def photograph(width: int, height: int) -> Image.Image:
    """Return smooth shapes with edges and a little noise, as cameras see them."""
    y, x = np.mgrid[:height, :width] / min(width, height)
    waves = [
        np.sin(9 * x + k) + np.cos(7 * y - k * x) + 1.5 * ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.1) for k in range(3)
    ]
    values = np.stack(waves, axis=-1) * 30 + 128 + RNG.normal(0, 3, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, count in (("train", 2), ("test", 1)):
        for name in ("cat", "dog"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for i in range(count):
                photograph(300, 280).save(tmp_path / "data" / part / name / f"{i}.jpg")
    return tmp_path


@pytest.fixture
def opened(folder: Path) -> Callable[..., Dataset]:
    def opened(**changes: object) -> Dataset:
        return load_dataset(experiment(folder, **changes))

    return opened


def experiment(folder: Path, **changes: object) -> Experiment:
    values = {
        "dataset": "image-folder",
        "data-dir": folder / "data",
        "image-size": SIDE,
        "image-cache": folder / "cache",
    }
    return build(values | {key.replace("_", "-"): value for key, value in changes.items()})


def test_a_data_set_is_the_same_from_memory_from_the_cache_and_from_neither(
    opened: Callable[..., Dataset], folder: Path
) -> None:
    (folder / "file").touch()
    memory, mapped, neither = (
        opened(),
        opened(image_memory=1),
        opened(image_memory=1, image_cache=folder / "file" / "x"),
    )
    assert [type(d.train) for d in (memory, mapped, neither)] == [FileImages, ArrayImages, FileImages]
    assert len(list((folder / "cache").glob("*.npy"))) == 2
    for dataset in (mapped, neither):
        assert (dataset.mean, dataset.std) == (memory.mean, memory.std)
        for ours, theirs in ((dataset.train, memory.train), (dataset.test, memory.test)):
            rows = np.arange(len(theirs))[::-1].copy()
            assert np.array_equal(ours.batch(rows), theirs.batch(rows))
            assert np.array_equal(ours.labels, theirs.labels)


def test_the_moments_do_not_depend_on_where_pixels_are(
    opened: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.data.sources.file_sets.MOMENT_FILES", 2)  # fewer than there are
    memory, mapped = opened(seed=1), opened(image_memory=1)
    assert isinstance(mapped.train, ArrayImages) and (mapped.mean, mapped.std) == (memory.mean, memory.std)


def test_an_archives_files_are_decoded_into_memory_or_the_cache(folder: Path) -> None:
    arrays: dict[str, np.ndarray] = {}
    for part in ("train", "test"):
        contents = [path.read_bytes() for path in sorted((folder / "data" / part).rglob("*.jpg"))]
        arrays[f"jpeg_{part}"] = np.frombuffer(b"".join(contents), np.uint8)
        arrays[f"offset_{part}"] = np.cumsum([0, *map(len, contents)])
        arrays[f"y_{part}"] = np.arange(len(contents)) % 2
    np.savez(folder / "a.npz", **arrays)
    of = {"dataset": "npz", "data_dir": folder / "a.npz"}
    memory, mapped = (load_dataset(experiment(folder, image_memory=size, **of)) for size in (1024, 1))
    assert isinstance(mapped.train, ArrayImages) and isinstance(mapped.train.pixels, np.memmap)
    assert isinstance(memory.train, ArrayImages) and not isinstance(memory.train.pixels, np.memmap)
    assert (mapped.mean, mapped.std) == (memory.mean, memory.std)
    for ours, theirs in ((mapped.train, memory.train), (mapped.test, memory.test)):
        assert np.array_equal(ours.batch(np.arange(len(ours))), theirs.batch(np.arange(len(ours))))
    offsets = arrays["offset_train"]
    for row in (1, 3):
        arrays["jpeg_train"] = arrays["jpeg_train"].copy()
        arrays["jpeg_train"][offsets[row] : offsets[row + 1]] = 0
    np.savez(folder / "b.npz", **arrays)
    for size in (1024, 1):
        with pytest.raises(UserError, match=r"2 of 6 images cannot be read: .*jpeg_train\[1\].*jpeg_train\[3\]"):
            load_dataset(experiment(folder, image_memory=size, **of | {"data_dir": folder / "b.npz"}))


def test_all_unreadable_files_are_named_before_anything_starts(opened: Callable[..., Dataset], folder: Path) -> None:
    for name in ("train/dog/1.jpg", "test/cat/0.jpg"):
        (folder / "data" / name).write_bytes(b"no image")
    for memory in (1024, 1):
        with pytest.raises(UserError, match=r"^2 of 6 images cannot be read: .*dog/1\.jpg.*cat/0\.jpg"):
            opened(image_memory=memory)


def test_keys_of_the_machine_change_no_run_and_reach_no_site(folder: Path, tmp_path: Path) -> None:
    one = experiment(folder, run_name="run", output_dir=tmp_path / "runs")
    Journal(run_folder(one), one)
    other = experiment(
        folder,
        run_name="run",
        output_dir=tmp_path / "runs",
        resume=True,
        image_memory=7,
        image_cache=tmp_path / "other",
    )
    assert run_folder(other) == run_folder(one.replace(resume=True))
    assert Cell(one).identity() == Cell(other).identity()
    deployed = build(
        {"partition": "deployed", "classes": ["a", "b"], "image-memory": 7, "image-cache": tmp_path / "secret"}
    )
    assert "secret" not in wire.experiment_json(deployed) and "image-memory" not in wire.experiment_json(deployed)
    assert str(tmp_path / "other") in wire.experiment_json(other)  # a simulated site is this machine


def test_the_cache_is_below_the_configuration_or_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.yaml").write_text("image-cache: decoded\n")
    assert cache_folder(load(tmp_path / "x.yaml")) == tmp_path / "decoded"
    monkeypatch.setenv("FEDNC_CACHE", str(tmp_path / "of-the-environment"))
    assert cache_folder(build({})) == tmp_path / "of-the-environment"
    monkeypatch.delenv("FEDNC_CACHE")
    assert cache_folder(build({})) == Path(os.environ["HOME"]) / ".cache" / "fednc" / "images"


@pytest.mark.parametrize(
    ("width", "height", "drafted"), [(640, 480, 2), (1000, 2000, 4), (2048, 2048, 8), (255, 300, 1)]
)
def test_a_jpeg_is_decoded_smaller_where_it_becomes_smaller(
    width: int, height: int, drafted: int, tmp_path: Path
) -> None:
    photograph(width, height).save(content := io.BytesIO(), "JPEG", quality=92)
    image = open_image(content.getvalue(), "x", side=64)
    assert image.size == (-(-width // drafted), -(-height // drafted)) and min(image.size) >= 2 * 64
    assert open_image(content.getvalue(), "x").size == (width, height)
    whole = Image.open(content)
    (tmp_path / "a.jpg").write_bytes(content.getvalue())
    expected = np.asarray(fit(whole.convert("RGB"), 64), np.int64).transpose(2, 0, 1)
    ours = [FileImages([tmp_path / "a.jpg"], np.zeros(1, np.int64), 64).batch(np.array([0]))[0].numpy()]
    ours.append(read_image(tmp_path / "a.jpg", 3, (64, 64)))
    for pixels in ours:  # of 255 levels: 1 on average, and 12 at the sharpest edge
        difference = np.abs(pixels - expected)
        assert difference.mean() <= (1 if drafted > 1 else 0) and difference.max() <= (12 if drafted > 1 else 0)
    assert np.array_equal(*ours)
