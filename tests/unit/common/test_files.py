"""What this program makes is for its owner alone, whatever the umask; what was there keeps its mode."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.files import private_file, private_folder, read_arrays, save_arrays, write_text


@pytest.fixture(autouse=True, params=[0, 0o022])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_folders_are_their_owners_alone_those_above_too(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o755)
    (tmp_path / "mine").chmod(0o755)
    assert private_folder(tmp_path / "mine" / "a" / "b") == tmp_path / "mine" / "a" / "b"
    assert [mode(tmp_path / "mine" / name) for name in (".", "a", "a/b")] == [0o755, 0o700, 0o700]
    private_folder(tmp_path / "mine" / "a" / "b")
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError):
            private_folder(place)


def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "{}")
    save_arrays(tmp_path / "a.safetensors", {"x": np.arange(3)}, {})
    with private_file(tmp_path / "lines", "a") as file:
        file.write("ä")
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600} and len(list(tmp_path.iterdir())) == 3
    assert (tmp_path / "lines").read_text(encoding="utf-8") == "ä"
    assert read_arrays(tmp_path / "a.safetensors")[0]["x"].tolist() == [0, 1, 2]


def test_what_a_crash_left_does_not_give_its_mode_on(tmp_path: Path) -> None:
    for name in ("a.json", "a.safetensors"):
        part = (tmp_path / name).with_suffix(".part")
        part.write_text("half")
        part.chmod(0o666)
        if name == "a.json":
            write_text(tmp_path / name, "{}")
        else:
            save_arrays(tmp_path / name, {}, {})
        assert mode(tmp_path / name) == 0o600 and not part.exists()


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.part").mkdir()  # stands in the way
    (tmp_path / "a.json").write_text("before")
    with pytest.raises(OSError):
        write_text(tmp_path / "a.json", "after")
    with pytest.raises(UserError, match="cannot be written"):
        save_arrays(tmp_path / "a.safetensors", {}, {})
    assert (tmp_path / "a.json").read_text() == "before"
