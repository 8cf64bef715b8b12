"""Decoded images on a site's disk: decoded once, anew when a file changes, and not at all where there is no room."""

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client_app import image_cache
from client_app.image_cache import cached
from client_app.site_data import load_site_data
from common.config import APP_ROOT
from common.data import npz
from common.data.images import ArrayImages, FileImages
from common.errors import UserError

RNG = np.random.default_rng(0)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for path in paths:
        Image.fromarray(RNG.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def open_site(files: list[Path], tmp_path: Path) -> Callable[..., Any]:
    def open_site(size: int = 8, channels: int = 3, folder: str = "cache") -> Any:
        source = FileImages(files, np.arange(len(files)), size, channels)
        return cached(source, [path.name for path in files], files, tmp_path / folder)

    return open_site


def pixels(source: Any) -> np.ndarray:
    return np.asarray(source.batch(np.arange(len(source))))


def test_the_cache_holds_what_decoding_gives(
    open_site: Callable[..., Any], files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "_CHUNK", 3)
    for channels in (1, 3):
        found = open_site(channels=channels)
        assert isinstance(found, ArrayImages) and isinstance(found.pixels, np.memmap)
        assert np.array_equal(pixels(found), pixels(FileImages(files, found.labels, 8, channels)))
        assert found.labels.tolist() == list(range(7))
    assert found.batch(np.array([3, 3, 0])).shape == (3, 3, 8, 8)
    assert (tmp_path / "cache").stat().st_mode & 0o77 == 0
    assert all(path.stat().st_mode & 0o77 == 0 for path in (tmp_path / "cache").iterdir())


def test_a_later_process_decodes_nothing(
    open_site: Callable[..., Any], files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pixels(open_site())
    program = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from client_app.image_cache import cached\nfrom common.data.images import FileImages\n"
        "folder = Path(sys.argv[1]); files = sorted(folder.glob('*.png'))\n"
        "source = FileImages(files, np.arange(7), 8, 3); source.batch = None\n"
        "print(cached(source, [f.name for f in files], files, folder / 'cache').batch(np.arange(7)).sum().item())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=APP_ROOT, capture_output=True, text=True, check=True
    )
    assert int(answer.stdout) == before.sum()
    monkeypatch.setattr(FileImages, "batch", None)
    assert np.array_equal(pixels(open_site()), before)


def test_a_changed_file_another_size_or_other_channels_are_decoded_anew(
    open_site: Callable[..., Any], files: list[Path], tmp_path: Path
) -> None:
    first = pixels(open_site())
    Image.fromarray(np.zeros((12, 9, 3), np.uint8)).save(files[2])
    changed = pixels(open_site())
    assert not changed[2].any() and np.array_equal(np.delete(changed, 2, 0), np.delete(first, 2, 0))
    content = files[3].read_bytes()
    os.utime(files[3], ns=(1, 1))  # touched
    assert files[3].read_bytes() == content and np.array_equal(pixels(open_site()), changed)
    open_site(channels=1)
    assert len(list((tmp_path / "cache").iterdir())) == 4
    open_site(size=4)
    assert len(list((tmp_path / "cache").iterdir())) == 4  # the oldest went


@pytest.mark.parametrize("damage", ["truncated", "empty", "other"])
def test_a_damaged_cache_is_made_again(
    damage: str, open_site: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = pixels(open_site())
    path = next((tmp_path / "cache").iterdir())
    content = path.read_bytes()
    path.write_bytes({"truncated": content[:-5], "empty": b"", "other": b"\x93NUMPY" + b"x" * 500}[damage])
    with caplog.at_level(logging.WARNING, "fednc"):
        assert np.array_equal(pixels(open_site()), before)
    assert "is damaged: the images are decoded again" in caplog.text
    assert path.read_bytes() == content


def test_a_full_disk_costs_the_cache_alone(
    open_site: Callable[..., Any],
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    expected = pixels(FileImages(files, np.arange(7), 8, 3))
    (tmp_path / "blocked").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "fednc"):
        assert np.array_equal(pixels(open_site(folder="blocked/cache")), expected)
        assert "each process decodes them again" in caplog.text
        monkeypatch.setattr(os, "fsync", full)
        assert np.array_equal(pixels(open_site()), expected)
    assert "No space left on device" in caplog.text
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_unreadable_image_leaves_no_cache(open_site: Callable[..., Any], files: list[Path], tmp_path: Path) -> None:
    files[5].write_bytes(b"no image")
    with pytest.raises(UserError, match=r"5\.png: not a readable image"):
        open_site()
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_crash_left_goes_after_a_day(open_site: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    for name in ("old.part", "new.part"):
        (tmp_path / "cache" / name).touch()
        if name == "old.part":
            os.utime(tmp_path / "cache" / name, (1, 1))
    open_site()
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".npy", ".part"]


def test_an_archive_is_decoded_once(
    tmp_path: Path, site: Callable[..., Any], deployed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = []
    for _ in range(9):
        Image.fromarray(RNG.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(file := BytesIO(), "JPEG")
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "x.npz"
    offset, y = np.cumsum([0, *map(len, files)]), np.arange(9) % 3
    arrays = {"jpeg": np.concatenate(files), "offset": offset, "y": y, "is_test": np.arange(9) > 5}
    np.savez(path, class_names=np.array(["cat", "dog", "fox"]), **arrays)
    config, calls = site(data="data/x.npz"), []  # type: Any, list[int]
    real = npz.byte_images
    monkeypatch.setattr(npz, "byte_images", lambda *a: calls.append(1) or real(*a))

    def load(channels: int = 1) -> list[np.ndarray]:
        dataset = load_site_data(config, deployed(pixel_mean=[0.5] * channels))
        assert dataset.train.labels.tolist() == y[:6].tolist() and len(dataset.test) == 3
        return [pixels(dataset.train), pixels(dataset.test)]

    first = load()
    assert len(calls) == 2 and all(map(np.array_equal, load(), first)) and len(calls) == 2
    grey = np.asarray(real(arrays["jpeg"], offset, np.array([7]), y[7:8], 8, "x").pixels, np.float64)
    weighted = (grey[0] * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(axis=0)
    assert first[1].shape == (3, 1, 8, 8) and np.abs(first[1][1, 0] - weighted).max() <= 1
    assert load(channels=3)[0].shape == (6, 3, 8, 8) and len(calls) == 4
    os.utime(path, ns=(1, 1))
    assert all(map(np.array_equal, load(), first)) and len(calls) == 6
