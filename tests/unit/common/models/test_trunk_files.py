"""A trunk's cache on the disk: whole or not at all, filled by any process, for its owner alone, and never trusted."""

import errno
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.config import build
from common.data import load_dataset
from common.errors import UserError
from common.models import trunk, trunk_cache, trunk_files
from common.models.features import extract_features
from common.models.model import build_model
from common.models.trunk import trunk_of
from common.models.trunk_cache import TrunkCache
from common.models.trunk_files import Layout, MemoryStore, TrunkFiles

LAYOUT = Layout((10, 2, 3), "fp32")
DATASET = load_dataset(build({"dataset": "digits"}))
ROWS = np.arange(40)


@pytest.fixture(autouse=True)
def _nothing_is_open() -> None:
    trunk_cache._stores.clear()


def extracted(cache: TrunkCache | None, **keys: Any) -> torch.Tensor:
    experiment = build({"dataset": "digits", "width": 4, "train-from": "stage3", "method": "fedavg"} | keys)
    model = build_model(experiment, 1, 10)
    body = trunk_of(model)
    assert body
    body.trunk_cache = cache
    return extract_features(model.backbone, DATASET.train, ROWS, DATASET)[0]


@given(st.lists(st.integers(0, 9), min_size=1, unique=True), st.sampled_from(["fp32", "fp16", "bf16"]))
def test_values_come_back_and_others_are_not_there(rows: list[int], precision: str) -> None:
    layout = Layout((10, 2, 3), precision)
    store, index = MemoryStore(layout), np.array(rows)
    values = layout.cast(torch.randn(len(rows), 2, 3))
    store.write(index, values)
    store.commit(index)
    assert torch.equal(store.read(index), values)
    assert set(np.flatnonzero(store.filled)) == set(rows)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_another_opener_finds_what_was_written(tmp_path: Path, precision: str) -> None:
    layout = Layout((10, 2, 3), precision)
    one, values = TrunkFiles(tmp_path / "t", "a", layout), layout.cast(torch.randn(3, 2, 3))
    rows, other = np.array([7, 0, 3]), TrunkFiles(tmp_path / "t", "a", layout)
    one.write(rows, values)
    assert not other.filled.any()  # not before it is safe
    one.commit(rows)
    assert np.flatnonzero(other.filled).tolist() == [0, 3, 7]
    assert torch.equal(other.read(rows), values)


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    TrunkFiles(tmp_path / "t", "a", LAYOUT)
    modes = {path: path.stat().st_mode & 0o777 for path in [tmp_path / "t", *(tmp_path / "t").rglob("*")]}
    assert set(modes.values()) == {0o700, 0o600}
    assert not list((tmp_path / "t").glob("*.part"))


@pytest.mark.parametrize("harm", ["about is no JSON", "outputs is cut", "checksums are gone", "another layout"])
def test_damage_is_named_and_computed_again(tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    store = TrunkFiles(tmp_path, "a", LAYOUT)
    store.write(ROWS[:10], torch.ones(10, 2, 3))
    store.commit(ROWS[:10])
    folder = tmp_path / "a"
    if harm == "about is no JSON":
        (folder / "about.json").write_text("{")
    elif harm == "outputs is cut":
        os.truncate(folder / "outputs", 17)
    elif harm == "checksums are gone":
        (folder / "checksums").unlink()
    with caplog.at_level(logging.WARNING, "fednc"):
        again = TrunkFiles(tmp_path, "a", Layout((10, 4), "fp32") if harm == "another layout" else LAYOUT)
    assert not again.filled.any()
    assert f"{folder} is damaged, or another trunk's: it is removed, and computed again" in caplog.text


def test_what_another_trunk_made_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extracted(TrunkCache(tmp_path), seed=1)
    (other,) = tmp_path.iterdir()
    trunk_cache._stores.clear()
    expected = extracted(TrunkCache(tmp_path))
    (own,) = (path for path in tmp_path.iterdir() if path != other)
    shutil.rmtree(own)
    other.rename(own)  # as if it were of this trunk
    trunk_cache._stores.clear()
    with caplog.at_level(logging.WARNING, "fednc"):
        assert torch.equal(extracted(TrunkCache(tmp_path)), expected)
    assert f"{own} is damaged, or another trunk's" in caplog.text


def test_a_value_that_was_damaged_is_named_and_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, expected = TrunkCache(tmp_path), extracted(None)
    assert torch.equal(extracted(cache), expected)
    trunk_cache._stores.clear()
    (outputs,) = tmp_path.glob("*/outputs")
    with outputs.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 300)
    with caplog.at_level(logging.WARNING, "fednc"):
        assert torch.equal(extracted(cache), expected)
    assert f"{outputs.parent}: the values of" in caplog.text and "computed again" in caplog.text
    caplog.clear()
    trunk_cache._stores.clear()
    assert torch.equal(extracted(cache), expected) and "damaged" not in caplog.text


@pytest.mark.parametrize("kind", ["file", "link", "about is a folder"])
def test_what_is_no_cache_gives_way_to_one(tmp_path: Path, kind: str) -> None:
    if kind == "file":
        (tmp_path / "a").write_text("")
    elif kind == "link":
        (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    else:
        (tmp_path / "a" / "about.json").mkdir(parents=True)
    assert not TrunkFiles(tmp_path, "a", LAYOUT).filled.any()


def test_a_cache_in_use_stays_however_many_are_made(tmp_path: Path) -> None:
    store = TrunkFiles(tmp_path, "used", LAYOUT)
    for number in range(2 * trunk_files.KEPT):
        store.lacking(ROWS[:1])
        TrunkFiles(tmp_path, f"other-{number}", LAYOUT)
    assert (tmp_path / "used").is_dir()


def test_all_of_a_process_in_memory_is_limited(tmp_path: Path) -> None:
    (folder := tmp_path / "trunks").write_text("a file")
    one = len(DATASET.train) * 8 * 2 * 2 * 4
    cache = TrunkCache(folder, memory=int(1.5 * one))
    for seed in (0, 1):
        extracted(cache, seed=seed)
    assert [store is None for store in trunk_cache._stores.values()] == [False, True]


@pytest.mark.parametrize("keys", [{"trunk-cache": False}, {"trunk-memory": 0}])
def test_half_precision_gives_the_same_without_a_cache(tmp_path: Path, keys: dict[str, Any]) -> None:
    kept = extracted(TrunkCache(tmp_path / "a", "bf16"), **{"trunk-precision": "bf16"})
    (tmp_path / "b").write_text("a file")
    trunk_cache._stores.clear()
    without = None if keys.get("trunk-cache") is False else TrunkCache(tmp_path / "b", "bf16")
    assert torch.equal(extracted(without, **{"trunk-precision": "bf16"}), kept)
    assert not torch.equal(extracted(None), kept)


def test_a_writer_whose_folder_was_removed_goes_on(tmp_path: Path) -> None:
    store = TrunkFiles(tmp_path, "a", LAYOUT)
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    store.write(ROWS[:3], torch.ones(3, 2, 3))
    store.commit(ROWS[:3])
    assert store.filled.sum() == 3 and torch.equal(store.read(ROWS[:3]), torch.ones(3, 2, 3))


def test_those_used_longest_ago_go_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "x.1.part").mkdir()
    os.utime(tmp_path / "x.1.part", (0, 0))
    for number in range(trunk_files.KEPT + 1):
        TrunkFiles(tmp_path, f"cache-{number}", LAYOUT)
        os.utime(tmp_path / f"cache-{number}", (1e9 + number, 1e9 + number))
    with caplog.at_level(logging.INFO, "fednc"):
        TrunkFiles(tmp_path, "cache-1", LAYOUT)
        TrunkFiles(tmp_path, "last", LAYOUT)
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == trunk_files.KEPT and names >= {"cache-1", "last"} and not names & {"cache-0", "x.1.part"}
    assert "cache-2 is removed" in caplog.text


@pytest.mark.parametrize("memory", [1 << 20, 0])
@pytest.mark.parametrize("when", ["no folder can be made", "no room", "the disk fills up amid"])
def test_a_full_disk_ends_nothing_and_is_named(
    tmp_path: Path, when: str, memory: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected, folder = extracted(None), tmp_path / "trunks"

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    if when == "no folder can be made":
        folder.write_text("a file")
    elif when == "no room":
        monkeypatch.setattr(trunk_files, "free_bytes", lambda path: 5)
    else:
        monkeypatch.setattr(os, "pwrite", full)
    cache = TrunkCache(folder, memory=memory)
    with caplog.at_level(logging.WARNING, "fednc"):
        assert torch.equal(extracted(cache), expected)
        assert torch.equal(extracted(cache), expected)
    lines = [record.message for record in caplog.records if "cannot be kept in" in record.message]
    assert len(lines) == 1 and str(folder) in lines[0]
    assert ("kept in memory" if memory else "more than trunk-memory, and is computed each time") in lines[0]


@pytest.mark.parametrize("cached", [True, False])
def test_outputs_that_are_not_finite_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool) -> None:
    real = trunk._trunk_output

    def refuse(precision: str, factor: float, words: str) -> None:
        monkeypatch.setattr(trunk, "_trunk_output", lambda body, images: real(body, images) * factor)
        with pytest.raises(UserError, match=words):
            extracted(TrunkCache(tmp_path, precision) if cached else None, **{"trunk-precision": precision})

    refuse("fp16", 1e6, r"not finite as fp16.*set trunk-precision to fp32")
    refuse("fp32", float("inf"), "not finite as fp32: its weights are damaged")
    assert not any(np.fromfile(path, np.uint8).any() for path in tmp_path.rglob("checksums"))


FILLER = """
import sys
from pathlib import Path
import numpy as np, torch
from common.models.trunk_files import Layout, TrunkFiles
store = TrunkFiles(Path(sys.argv[1]), "a", Layout((400, 50), "fp32"))
for start in range(0, 400, 20):
    rows = np.arange(start, start + 20)
    store.write(rows, torch.from_numpy(rows).float().view(-1, 1).expand(-1, 50))
    store.commit(rows)
    print(start, flush=True)
"""


def test_processes_that_fill_it_together_and_one_that_is_killed_leave_no_wrong_value(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILLER, str(tmp_path)]
    fillers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    assert fillers[0].stdout
    fillers[0].stdout.readline()
    fillers[0].kill()
    assert [filler.wait() for filler in fillers[1:]] == [0]
    fillers[0].wait()
    store, rows = TrunkFiles(tmp_path, "a", Layout((400, 50), "fp32")), np.arange(400)
    assert store.filled.all()
    assert torch.equal(store.read(rows), torch.arange(400.0).view(-1, 1).expand(-1, 50))
