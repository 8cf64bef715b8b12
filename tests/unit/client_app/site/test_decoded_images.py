"""A site's decoded images: in its own folder, decoded once, archives too, whatever the coordinator says of caches."""

import logging
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from client_app.preflight.checks import check_site
from client_app.preflight.table import show
from client_app.site.data import load_site_data
from common.data.images.encoded import ByteImages, EncodedImages
from common.data.images.source import ArrayImages
from common.errors import UserError

RNG = np.random.default_rng(0)
MANIFEST = ("image,label,split", "a.png,cat,train", "b.png,dog,train", "c.png,fox,test")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the rows that are decoded from now on."""
    found: list[int] = []
    for kind in (EncodedImages, ByteImages):
        real = kind.decode

        def decode(self: Any, row: int, content: bytes, real: Any = real) -> np.ndarray:
            found.append(row)
            return np.asarray(real(self, row, content))

        monkeypatch.setattr(kind, "decode", decode)
    return found


def pixels(source: Any) -> np.ndarray:
    return np.asarray(source.batch(np.arange(len(source))))


def test_a_sites_files_are_decoded_once_into_its_own_folder(
    site: Callable[..., Any],
    deployed: Callable[..., Any],
    images: Callable[..., Path],
    decoded: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEDNC_CACHE", str(tmp_path / "elsewhere"))
    images(*MANIFEST)
    config = site(cache="own")
    experiment = deployed(image_cache=tmp_path / "coordinators", image_memory=1000)
    first = load_site_data(config, experiment)
    assert set(decoded) == {0, 1, 2} and pixels(first.train).shape == (2, 1, 8, 8)
    decoded.clear()
    again = load_site_data(config, experiment)
    assert np.array_equal(pixels(again.test), pixels(first.test)) and decoded == []
    assert (tmp_path / "own").stat().st_mode & 0o77 == 0
    assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "coordinators").exists()


def test_all_images_that_a_site_cannot_read_are_named_at_once(
    site: Callable[..., Any], deployed: Callable[..., Any], images: Callable[..., Path]
) -> None:
    folder = images(*MANIFEST)
    for name in ("a.png", "c.png"):
        (folder / name).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"^2 of 3 images cannot be read: .*manifest\.csv:2: .*manifest\.csv:4: "):
        load_site_data(site(), deployed())


def test_what_decoding_has_to_say_is_in_the_sites_log(
    site: Callable[..., Any],
    deployed: Callable[..., Any],
    images: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("common.data.images.decode_all._SHORT", 0.0)
    monkeypatch.setattr("common.data.images.decode_all.num_threads", lambda: 2)
    images(*MANIFEST)
    load_site_data(site(), deployed())
    assert "3 images become 0.0 MiB of pixels" in capsys.readouterr().out


def test_check_states_what_decoded_images_take_and_what_is_free(
    site: Callable[..., Any], deployed: Callable[..., Any], images: Callable[..., Path], tmp_path: Path
) -> None:
    images(*MANIFEST)
    config = site(cache="own")
    findings = check_site(config, deployed(image_size=64))
    found = findings.facts["cache"]
    assert found["folder"] == str(tmp_path / "own") and found["needed_bytes"] == 3 * 64 * 64
    assert found["free_bytes"] > 0 and found["there_bytes"] == 0
    assert check_site(config).facts["cache"]["there_bytes"] > 3 * 64 * 64  # decoded by the check above
    show(findings, console := Console(record=True, width=200))
    shown = console.export_text()
    assert "0.0 MiB needed, 0.0 MiB there" in shown and "for this user alone; may be deleted" in shown


def archive(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    y, is_test = np.arange(9) % 3, np.arange(9) > 5
    np.savez(path, class_names=np.array(["cat", "dog", "fox"]), y=y, is_test=is_test, **arrays)


def test_an_archive_of_files_is_decoded_once(
    tmp_path: Path, site: Callable[..., Any], deployed: Callable[..., Any], decoded: list[int]
) -> None:
    files = []
    for _ in range(9):
        Image.fromarray(RNG.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(file := BytesIO(), "JPEG")
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    path = tmp_path / "data" / "x.npz"
    data, offset = np.concatenate(files), np.cumsum([0, *map(len, files)])
    archive(path, jpeg=data, offset=offset)
    config = site(data="data/x.npz")

    def load(channels: int = 1) -> list[np.ndarray]:
        dataset = load_site_data(config, deployed(pixel_mean=[0.5] * channels))
        assert isinstance(dataset.train, ArrayImages) and len(dataset.train) == 6 and len(dataset.test) == 3
        return [pixels(dataset.train), pixels(dataset.test)]

    first = load()
    assert decoded
    decoded.clear()
    assert all(map(np.array_equal, load(), first)) and decoded == []
    colour = ByteImages(data, offset, np.array([7]), np.zeros(1, np.int64), 8, "x", path)
    weighted = (np.float64(pixels(colour)[0]) * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(axis=0)
    assert first[1].shape == (3, 1, 8, 8) and np.abs(first[1][1, 0] - weighted).max() <= 1
    assert load(channels=3)[0].shape == (6, 3, 8, 8)
    decoded.clear()
    os.utime(path, ns=(1, 1))  # touched
    assert all(map(np.array_equal, load(), first)) and decoded == []


def test_an_archive_of_pixels_is_not_read_again(
    tmp_path: Path, site: Callable[..., Any], deployed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = RNG.integers(0, 256, (9, 8, 8), dtype=np.uint8)
    archive(tmp_path / "data" / "x.npz", x=x)
    config = site(data="data/x.npz")
    dataset = load_site_data(config, deployed(pixel_mean=[0.5] * 3))
    assert np.array_equal(pixels(dataset.train), x[:6, None].repeat(3, 1))
    monkeypatch.setattr("common.data.sources.npz._pixels", None)
    again = load_site_data(config, deployed(pixel_mean=[0.5] * 3))
    assert np.array_equal(pixels(again.test), x[6:, None].repeat(3, 1))


def test_an_archive_of_which_a_file_is_left_out_is_decoded_once_too(
    tmp_path: Path,
    site: Callable[..., Any],
    deployed: Callable[..., Any],
    decoded: list[int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("fednc"), "propagate", True)
    files = [np.frombuffer(b"\xff\xd8\xffno image", np.uint8)]
    for _ in range(8):
        Image.fromarray(RNG.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(file := BytesIO(), "JPEG")
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    path = tmp_path / "data" / "x.npz"
    archive(path, jpeg=np.concatenate(files), offset=np.cumsum([0, *map(len, files)]))
    config, experiment = site(data="data/x.npz"), deployed(skip_bad_images=1)
    first = load_site_data(config, experiment)
    assert len(first.train) + len(first.test) == 8 and any("jpeg[0]" in note for note in first.notes)
    decoded.clear()
    again = load_site_data(config, experiment)
    assert np.array_equal(pixels(again.train), pixels(first.train)) and decoded == []
    assert "damaged" not in caplog.text
