"""Decoded images on disk: the same pixels as without it, decoded once whatever happens, and not at all without room."""

import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.config import APP_ROOT
from common.data.images import pixel_cache
from common.data.images.bad_images import BadImagesError
from common.data.images.decode_all import silenced
from common.data.images.encoded import ByteImages, EncodedImages, FileImages
from common.data.images.pixel_cache import cached, check_once, keep_decoded
from common.data.images.source import ArrayImages

RNG = np.random.default_rng(0)
ROWS = np.arange(7)
# opens the images of a folder: folder, cache
PROGRAM = """
import logging, os, signal, sys
from pathlib import Path
import numpy as np
from common.data.images.encoded import FileImages
from common.data.images.pixel_cache import cached
folder, cache = map(Path, sys.argv[1:3])
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
files = sorted(folder.glob("*.png"))
source, decode = FileImages(files, np.arange(len(files)), 8, 3), FileImages.decode
"""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "files").mkdir()
    paths = [tmp_path / "files" / f"{i}.png" for i in range(7)]
    for path in paths:
        write(path)
    return paths


def write(path: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the rows that are decoded from now on."""
    found: list[int] = []
    real = EncodedImages.decode
    monkeypatch.setattr(
        EncodedImages, "decode", lambda self, row, content: found.append(row) or real(self, row, content)
    )
    return found


def images(files: list[Path], size: int = 8, channels: int = 3) -> FileImages:
    return FileImages(files, np.arange(len(files)), size, channels)


def pixels(source: Any) -> np.ndarray:
    return np.asarray(source.batch(np.arange(len(source))))


def plain(files: list[Path], size: int = 8) -> np.ndarray:
    """Return pixels as Pillow alone makes them: these files are upright, their short side is the width."""
    found = []
    for path in files:
        image = Image.open(path).convert("RGB")
        height = round(image.height * size / image.width)
        top = (height - size) // 2
        fitted = image.resize((size, height), Image.Resampling.BICUBIC).crop((0, top, size, top + size))
        found.append(np.asarray(fitted).transpose(2, 0, 1))
    return np.stack(found)


def process(program: str, *arguments: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM + program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=APP_ROOT, stdout=subprocess.PIPE, text=True, stderr=subprocess.STDOUT)


def test_pixels_are_the_same_from_memory_from_the_cache_and_without_either(files: list[Path], tmp_path: Path) -> None:
    from_files, memory = images(files), images(files)
    memory.keep()
    mapped, failures = cached(images(files), tmp_path / "cache")
    assert failures == [] and isinstance(mapped, ArrayImages) and isinstance(mapped.pixels, np.memmap)
    assert mapped.labels.tolist() == ROWS.tolist()
    expected = plain(files)
    for rows in (ROWS, np.array([3, 3, 0]), np.array([6])):
        for source in (from_files, memory, memory, mapped):
            batch = source.batch(rows)
            assert batch.is_contiguous() and np.array_equal(batch, expected[rows])
    assert type(mapped.batch(ROWS).numpy()) is np.ndarray  # of these rows alone


def test_the_folder_is_its_users_alone(files: list[Path], tmp_path: Path) -> None:
    cached(images(files), tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o77 == 0
    made = list((tmp_path / "cache").iterdir())
    assert {path.suffix for path in made} == {".npy", ".sha256", ".json", ".lock"}
    assert all(path.stat().st_mode & 0o77 == 0 for path in made)


def test_a_later_process_decodes_nothing(files: list[Path], tmp_path: Path) -> None:
    expected = pixels(cached(images(files), tmp_path / "cache")[0])
    program = "FileImages.decode = FileImages.content = None\n"
    program += "print(cached(source, cache)[0].batch(np.arange(7)).sum().item())"
    other = process(program, files[0].parent, tmp_path / "cache")
    assert int(other.communicate()[0]) == expected.sum()


def test_what_was_touched_or_moved_is_hashed_and_not_decoded(
    files: list[Path], tmp_path: Path, decoded: list[int]
) -> None:
    cache = tmp_path / "cache"
    expected = pixels(cached(images(files), cache)[0])
    assert sorted(set(decoded)) == ROWS.tolist()
    os.utime(files[3], ns=(1, 1))
    decoded.clear()
    assert np.array_equal(pixels(cached(images(files), cache)[0]), expected) and decoded == []
    files[0].parent.rename(tmp_path / "elsewhere")
    moved = [tmp_path / "elsewhere" / path.name for path in files]
    assert np.array_equal(pixels(cached(images(moved), cache)[0]), expected) and decoded == []
    assert len(list(cache.glob("*.npy"))) == 1


def test_only_what_changed_or_is_new_is_decoded(files: list[Path], tmp_path: Path, decoded: list[int]) -> None:
    cache = tmp_path / "cache"
    cached(images(files), cache)
    write(files[2])
    decoded.clear()
    assert np.array_equal(pixels(cached(images(files), cache)[0]), plain(files))
    assert set(decoded) == {2}
    files.append(files[0].with_name("7.png"))
    write(files[7])
    files.reverse()
    decoded.clear()
    assert np.array_equal(pixels(cached(images(files), cache)[0]), plain(files))
    assert set(decoded) == {0}
    assert len(list(cache.glob("*.npy"))) == 3


def test_a_file_changed_in_place_is_noticed_although_size_and_time_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"  # as long whatever it shows
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    before = path.stat()
    assert not pixels(cached(images([path]), tmp_path / "cache")[0]).any()
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert (pixels(cached(images([path]), tmp_path / "cache")[0]) == 9).all()


def test_another_transform_or_decoder_is_another_set(
    files: list[Path], tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    for number, source in enumerate((images(files), images(files, channels=1), images(files, size=4))):
        assert pixels(cached(source, cache)[0]).shape[1:] == (source.channels, *source.size)
        assert len(list(cache.glob("*.npy"))) == number + 1
    monkeypatch.setattr(pixel_cache, "_decoder", lambda: ["another version"])
    decoded.clear()
    cached(images(files), cache)
    assert set(decoded) == set(ROWS.tolist())


@pytest.mark.parametrize("damage", ["truncated", "empty", "other", "gone", "index"])
def test_a_damaged_cache_is_made_again(
    damage: str, files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    expected = pixels(cached(images(files), cache)[0])
    (path,) = cache.glob("*.json" if damage == "index" else "*.npy")
    content = path.read_bytes()
    damaged = {"truncated": content[:-5], "empty": b"", "other": b"\x93NUMPY" + b"x" * 500, "index": b"[]"}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING, "fednc"):
        assert np.array_equal(pixels(cached(images(files), cache)[0]), expected)
    assert caplog.text.count("is damaged: the images are decoded again") == (damage != "gone")
    assert path.read_bytes() == content


def test_without_room_or_right_to_write_the_run_goes_on_without(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "blocked").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "fednc"):
        source, failures = cached(images(files), tmp_path / "blocked" / "cache")
        assert failures == [] and np.array_equal(pixels(source), plain(files))
        assert "each process decodes them again" in caplog.text
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            assert np.array_equal(pixels(cached(images(files), tmp_path / "cache")[0]), plain(files))
        assert "No space left on device" in caplog.text
        assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".lock"}
        monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
        assert np.array_equal(pixels(cached(images(files), tmp_path / "cache")[0]), plain(files))
    assert "0.0 MiB needed, 0.0 MiB free" in caplog.text


def test_all_unreadable_images_are_named_at_once_and_looked_at_once(
    files: list[Path], tmp_path: Path, decoded: list[int]
) -> None:
    for row in (0, 2, 5):
        files[row].write_bytes(b"no image")
    for look in (
        lambda: cached(images(files), tmp_path / "cache")[1],
        lambda: check_once(images(files), tmp_path / "b"),
    ):
        failures = look()
        assert [row for row, _ in failures] == [0, 2, 5]
        assert all(f"{row}.png: not a readable image" in reason for row, reason in failures)
        decoded.clear()
        assert look() == failures and decoded == []
    good = [path for row, path in enumerate(files) if row not in (0, 2, 5)]
    assert np.array_equal(pixels(cached(images(good), tmp_path / "cache")[0]), plain(good)) and decoded == []
    error = str(BadImagesError(failures, 7))
    assert error.startswith("3 of 7 images cannot be read: ") and all(f"{row}.png" in error for row in (0, 2, 5))
    many = str(BadImagesError([(row, f"{row}.png: no") for row in range(30)], 90))
    assert "19.png" in many and " 20.png" not in many and "; and 10 more; or set skip-bad-images: 30" in many


def test_a_file_that_is_not_there_is_asked_for_again(files: list[Path], tmp_path: Path) -> None:
    content = files[4].read_bytes()
    files[4].unlink()
    source = images(files)
    assert [row for row, _ in cached(source, tmp_path / "cache")[1]] == [4]
    assert list((tmp_path / "cache").glob("*.json")) == []
    files[4].write_bytes(content)
    found, failures = cached(images(files), tmp_path / "cache")
    assert failures == [] and np.array_equal(pixels(found), plain(files))


def test_a_first_file_that_is_no_image_is_one_of_those_named(files: list[Path], tmp_path: Path) -> None:
    files[0].write_bytes(b"no image")
    source = FileImages(files, ROWS)
    assert (source.channels, source.size) == (3, (12, 9))
    assert [row for row, _ in cached(source, tmp_path / "cache")[1]] == [0]


def test_a_killed_process_leaves_nothing_that_is_trusted(files: list[Path], tmp_path: Path) -> None:
    program = (
        "def killed(self, row, content):\n    if row == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return decode(self, row, content)\nFileImages.decode = killed\ncached(source, cache)"
    )
    other = process(program, files[0].parent, tmp_path / "cache")
    other.communicate()
    assert other.returncode == -signal.SIGKILL
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".lock", ".part"}
    found, failures = cached(images(files), tmp_path / "cache")
    assert failures == [] and np.array_equal(pixels(found), plain(files))
    assert not list((tmp_path / "cache").glob("*.part"))


def test_of_several_processes_one_decodes_and_the_others_wait(files: list[Path], tmp_path: Path) -> None:
    """The one ends when the others have said that they wait."""
    program = """
import time
class Noted(logging.Handler):
    def emit(self, record):
        if "waiting for it" in record.getMessage():
            (cache.parent / f"waits-{os.getpid()}").touch()
def slow(self, row, content):
    (cache.parent / f"decoded-{os.getpid()}").touch()
    end = time.monotonic() + 60
    while len(list(cache.parent.glob("waits-*"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    return decode(self, row, content)
FileImages.decode = slow
logging.getLogger().addHandler(Noted())
print("sum", cached(source, cache)[0].batch(np.arange(7)).sum().item())
"""
    others = [process(program, files[0].parent, tmp_path / "cache") for _ in range(3)]
    answers = [other.communicate()[0] for other in others]
    assert all(f"sum {plain(files).sum()}" in answer for answer in answers), answers
    assert len(list(tmp_path.glob("decoded-*"))) == 1
    assert "".join(answers).count("another process decodes these images into") == 2
    assert np.array_equal(pixels(cached(images(files), tmp_path / "cache")[0]), plain(files))


def test_the_sets_used_longest_ago_go(files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("old.part", "new.part", "old.json"):
        (cache / name).touch()
        if name.startswith("old"):
            os.utime(cache / name, (1, 1))
    with caplog.at_level(logging.INFO, "fednc"):
        for size in (4, 5, 6):
            cached(images(files, size), cache, kept=2)
    assert len(list(cache.glob("*.npy"))) == len(list(cache.glob("*.sha256"))) == 2
    assert caplog.text.count("is removed: 2 other sets of decoded images were used since") == 1
    assert [path.name for path in cache.glob("*.part")] == ["new.part"] and not (cache / "old.json").exists()


def test_long_work_is_announced_and_workers_are_silent(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("common.data.images.decode_all.num_threads", lambda: 2)
    with caplog.at_level(logging.INFO, "fednc"):
        cached(images(files), tmp_path / "a")
        assert caplog.text == ""  # nothing that takes no time
        monkeypatch.setattr("common.data.images.decode_all._SHORT", 0.0)
        monkeypatch.setattr("common.data.images.decode_all._PAUSE", 0.0)
        with silenced():
            cached(images(files), tmp_path / "b")
            assert caplog.text == ""
        cached(images(files), tmp_path / "c")
    assert "7 images become 0.0 MiB of pixels; " in caplog.text and f"free in {tmp_path / 'c'}" in caplog.text
    assert "decoding with 2 threads, about" in caplog.text
    assert "decoded 1 of 7 images, about" in caplog.text


def test_memory_is_for_all_images_of_a_data_set_together(files: list[Path], tmp_path: Path, decoded: list[int]) -> None:
    size = 7 * 3 * 8 * 8
    kept = keep_decoded([images(files), images(files)], 2 * size, tmp_path / "cache")
    assert decoded.count(1) == 1  # of one source; the other has the same files
    assert [type(source) for source, _ in kept] == [FileImages, FileImages]
    mapped = keep_decoded([images(files), images(files)], 2 * size - 1, tmp_path / "cache")
    assert [type(source) for source, _ in mapped] == [ArrayImages, ArrayImages]
    for source, failures in (*kept, *mapped):
        assert failures == [] and np.array_equal(pixels(source), plain(files))


def test_files_in_one_array_are_cached_too(tmp_path: Path) -> None:
    contents = []
    for _ in range(9):
        Image.fromarray(RNG.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(file := io.BytesIO(), "JPEG")
        contents.append(file.getvalue())
    data, offsets = np.frombuffer(b"".join(contents), np.uint8), np.cumsum([0, *map(len, contents)])
    (tmp_path / "a.npz").touch()
    rows = np.array([8, 0, 3])
    source = ByteImages(data, offsets, rows, rows, 8, "a.npz: jpeg", tmp_path / "a.npz")
    found, failures = cached(source, tmp_path / "cache")
    assert failures == [] and isinstance(found, ArrayImages) and np.array_equal(found.pixels, pixels(source))
    assert np.array_equal(source.in_memory()[0].pixels, found.pixels)
    noted = json.loads(next((tmp_path / "cache").glob("*.json")).read_text())
    assert noted["failures"] == []
