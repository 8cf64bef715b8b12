from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from client_app.store import SiteStore
from common.errors import UserError


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    store = SiteStore(tmp_path / "run" / "site-00")
    assert store.load("personal") is None
    head = {"personal_head.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    path = store.save("personal", head, round=3)
    np.testing.assert_array_equal(store.load("personal")["personal_head.weight"], head["personal_head.weight"])
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"round": "3"}


def test_no_half_written_file_stays_behind(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    store.save("personal", {"w": np.zeros(2, np.float32)})
    store.save("personal", {"w": np.ones(2, np.float32)})
    assert [p.name for p in tmp_path.iterdir()] == ["personal.safetensors"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    path = store.save("personal", {"w": np.zeros(100, np.float32)})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"personal\.safetensors: cannot be read"):
        store.load("personal")


def test_non_contiguous_arrays_are_kept_as_they_look(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    store.save("x", {"w": array})
    np.testing.assert_array_equal(store.load("x")["w"], array)
