"""Generated damaged files: each ends in one line that names the file, or is read as if nothing had happened to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty import PICTURES, damage, mistake, must_fail
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from client_app.training.store import SiteStore
from common.config import build
from common.data import load_dataset
from common.data.images.decoding import open_image
from common.data.images.encoded import FileImages
from common.data.images.levels import Depth
from common.data.images.pixel_cache import cached
from common.files import save_arrays
from common.models.trained import GENERIC, PERSONAL, load_trained
from server_app.engines.engines import run_local
from server_app.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from server_app.run.journal import Journal, read_events

Damage = Callable[[bytes], bytes]
ARRAYS = {
    "w": np.arange(60, dtype=np.float32).reshape(3, 20),
    "n": np.array(7, np.int64),
    "flags": np.array([True, False]),
}


def same(ours: Any, theirs: Any) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[n].dtype == a.dtype and np.array_equal(ours[n], a) for n, a in theirs.items()
    )


# --- safetensors ------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(change=damage())
def test_a_damaged_checkpoint_is_never_taken(tmp_path_factory: pytest.TempPathFactory, change: Damage) -> None:
    folder = tmp_path_factory.mktemp("run")
    for server_round in (1, 2):
        arrays = {name: array + server_round if array.dtype != bool else array for name, array in ARRAYS.items()}
        save_checkpoint(folder, Checkpoint(server_round, arrays, {"kept": ARRAYS["w"]}), keep=3)
    newest = folder / "checkpoints" / "round-00002.safetensors"
    whole = newest.read_bytes()
    newest.write_bytes(damaged := change(whole))
    found = load_checkpoint(folder)
    assert found is not None and found.server_round == (2 if damaged == whole else 1)
    assert same(found.arrays, {n: a + found.server_round if a.dtype != bool else a for n, a in ARRAYS.items()})
    assert found.server_round == 2 or newest.with_suffix(".damaged").exists()


@settings(max_examples=150)
@given(change=damage())
def test_a_sites_damaged_state_is_never_taken(tmp_path_factory: pytest.TempPathFactory, change: Damage) -> None:
    store = SiteStore(tmp_path_factory.mktemp("site"))
    path = store.save("personal-00001", ARRAYS, round=1)
    whole = path.read_bytes()
    path.write_bytes(damaged := change(whole))
    if damaged == whole:
        assert same(store.load("personal-00001"), ARRAYS)
    else:
        assert "remove it" in must_fail(lambda: store.load("personal-00001"), "personal-00001")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run."""
    values = {"name": "tiny", "head-class-size": 20, "sites": 2, "width": 2, "rounds": 1, "local-epochs": 1}
    return run_local(build(values | {"run-name": "run", "output-dir": tmp_path_factory.mktemp("runs")}))


@settings(max_examples=40)
@given(change=damage(), name=st.sampled_from([GENERIC, PERSONAL]))
def test_a_damaged_model_is_never_used(run: Path, change: Damage, name: str) -> None:
    personal = next(run.glob(f"sites/*/{PERSONAL}"))
    path = run / GENERIC if name == GENERIC else personal
    whole = path.read_bytes()
    try:
        path.write_bytes(damaged := change(whole))
        error_text = mistake(lambda: load_trained(run, personal if name == PERSONAL else None), name)
        assert (error_text is None) == (damaged == whole)
    finally:
        path.write_bytes(whole)


def test_arrays_under_another_name_or_no_arrays_at_all_are_no_model(run: Path, tmp_path: Path) -> None:
    for arrays in ({"a": ARRAYS["w"]}, {}):
        save_arrays(tmp_path / "x.safetensors", arrays, {"experiment": "[" * 10_000, "model": "{}"})
        must_fail(lambda: load_trained(tmp_path / "x.safetensors"), "x.safetensors")


# --- what a run leaves, taken up again --------------------------------------------------------------


@settings(max_examples=80)
@given(change=damage(), name=st.sampled_from(["config.json", "versions.json", "sites.json", "metrics.jsonl"]))
def test_a_damaged_runs_folder(tmp_path_factory: pytest.TempPathFactory, change: Damage, name: str) -> None:
    folder = tmp_path_factory.mktemp("runs") / "run"
    experiment = build({"rounds": 3})

    def begin(server_round: int) -> None:
        journal = Journal(folder, experiment)
        journal.rewind(server_round)
        journal.write_unchanged_json("sites", {"a": {"num_train": 1}})
        journal.event("round", round=server_round + 1, loss={"θ": float("nan")})

    begin(0)
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    mistake(lambda: begin(1), str(folder))
    assert all(isinstance(event, dict) for event in read_events(folder))


# --- images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PICTURES)
def test_a_whole_image_is_read(kind: str) -> None:
    assert open_image(PICTURES[kind], "scan.png").size == (11, 9)


@settings(max_examples=400)
@given(kind=st.sampled_from(sorted(PICTURES)), change=damage(), depth=st.sampled_from(["percentile", "stored"]))
def test_a_damaged_image(kind: str, change: Damage, depth: Depth) -> None:
    images: list[Image.Image] = []
    mistake(lambda: images.append(open_image(change(PICTURES[kind]), "scan.png", depth)), "scan.png")
    assert all(image.width * image.height < 10**8 for image in images)


def huge_png(side: int) -> bytes:
    """A PNG that says it has side × side pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "content",
    [
        huge_png(60_000),
        huge_png(2**31 - 1),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"",
        b"\0" * 128 + b"DICM" + b"\xff" * 400,
    ],
)
def test_files_that_are_no_images_or_far_too_large(content: bytes) -> None:
    must_fail(lambda: open_image(content, "scan.png"), "scan.png")


def test_a_damaged_cache_of_images_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PICTURES["PNG"])
    expected = cached(FileImages([path], np.zeros(1, np.int64)), tmp_path / "cache")[0].batch(np.array([0]))
    (cache,) = (tmp_path / "cache").glob("*.npy")
    whole = cache.read_bytes()
    for content in (b"", whole[:70], whole[:-1], b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 60, b"\0" * 500):
        cache.write_bytes(content)
        again, _ = cached(FileImages([path], np.zeros(1, np.int64)), tmp_path / "cache")
        assert np.array_equal(again.batch(np.array([0])), expected)


# --- archives ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "images.npz"
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, size in (("train", 8), ("test", 4)):
        arrays[f"x_{part}"] = rng.integers(0, 255, (size, 4, 4), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(size) % 2
    np.savez_compressed(path, class_names=np.array(["a", "b"]), **arrays)
    return path


@settings(max_examples=120)
@given(change=damage())
def test_a_damaged_archive(archive: Path, change: Damage) -> None:
    whole = archive.read_bytes()
    try:
        archive.write_bytes(change(whole))
        mistake(lambda: load_dataset(build({"dataset": "npz", "data-dir": archive})), "images.npz")
    finally:
        archive.write_bytes(whole)
