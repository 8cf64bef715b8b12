import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from client_app.training.store import SiteStore
from common.config import APP_ROOT
from common.errors import UserError


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    store = SiteStore(tmp_path / "run" / "site-00")
    assert store.load("personal") is None
    head = {"personal_head.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    path = store.save("personal", head, round=3)
    np.testing.assert_array_equal(store.load("personal")["personal_head.weight"], head["personal_head.weight"])
    with safe_open(path, framework="numpy") as file:
        assert file.metadata()["round"] == "3"


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


def versions(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("personal-*"))


def test_a_round_starts_from_the_newest_version_made_before_it(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    assert store.load_version(1) == (0, None)
    for server_round in (1, 2, 5):
        store.save_version({"w": np.full(1, server_round, np.float32)}, server_round)
    for server_round, found in ((2, 1), (3, 2), (5, 2), (6, 5)):
        number, kept = store.load_version(server_round)
        assert number == found and kept is not None and kept["w"][0] == found
    assert store.load_version(1) == (0, None)  # a run that begins again does not start from what it made


def test_versions_go_once_no_checkpoint_needs_them(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    for server_round in range(1, 6):
        store.save_version({"w": np.zeros(1, np.float32)}, server_round, (max(0, server_round - 2),))
    assert versions(tmp_path) == [f"personal-0000{n}.safetensors" for n in (3, 4, 5)]


def test_a_round_that_may_be_the_next_start_s_keeps_its_version(tmp_path: Path) -> None:
    """However far apart the coordinator's checkpoints are: that may change where a run is taken up again."""
    store = SiteStore(tmp_path)
    for server_round in (1, 3, 4, 6, 7):
        store.save_version({"w": np.zeros(1, np.float32)}, server_round, (5,) if server_round == 7 else (0,))
    assert versions(tmp_path) == [f"personal-0000{n}.safetensors" for n in (4, 6, 7)]


def test_versions_between_checkpoints_are_thinned(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    for server_round in (1, 2, 4, 6, 7, 8, 9, 11, 12, 13):
        done = range(0, server_round, 5)
        store.save_version({"w": np.zeros(1, np.float32)}, server_round, tuple(done), every=5)
    assert versions(tmp_path) == [f"personal-{n:05}.safetensors" for n in (4, 9, 13)]


def test_versions_of_another_run_of_the_same_name_are_not_seen(tmp_path: Path) -> None:
    first, second = SiteStore(tmp_path, "aa"), SiteStore(tmp_path, "12")
    for server_round in (1, 2):
        first.save_version({"w": np.full(1, server_round, np.float32)}, server_round)
    assert second.has_other_runs() and not first.has_other_runs()
    assert second.load_version(3) == (0, None)
    second.save_version({"w": np.full(1, 9, np.float32)}, 1, (1,))
    assert first.load_version(3)[1]["w"][0] == 2 and second.load_version(3)[1]["w"][0] == 9


def test_the_line_of_the_guide_that_deletes_versions_leaves_the_models(tmp_path: Path) -> None:
    guide = (APP_ROOT / "docker" / "README.md").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"'rm /state/models/pilot/(\S+)'", guide)
    earlier, run = (SiteStore(tmp_path / "hospital-1", identity) for identity in ("aa", "bb"))
    for store in (earlier, run):
        store.save_version({"w": np.zeros(1, np.float32)}, 1)
        for name in ("frame", "personal_model"):
            store.save(name, {"w": np.zeros(1, np.float32)})
    assert len(versions(run.folder)) == 2  # an earlier run's stay
    for path in tmp_path.glob(pattern):
        path.unlink()
    assert sorted(path.stem for path in run.folder.iterdir()) == ["frame", "personal_model"]


def test_a_repeated_round_replaces_what_came_after_it(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    for server_round in (1, 2, 3):
        store.save_version({"w": np.zeros(1, np.float32)}, server_round)
    store.save_version({"w": np.ones(1, np.float32)}, 2, (1,))
    assert versions(tmp_path) == [
        "personal-00001.safetensors",
        "personal-00002.safetensors",
        "personal-00002.undone.safetensors",
        "personal-00003.undone.safetensors",
    ]
    assert store.load_version(4)[1]["w"][0] == 1  # not what was made of the run that was given up
    store.save_version({"w": np.ones(1, np.float32)}, 4, (1, 2))
    assert "personal-00002.undone.safetensors" not in versions(tmp_path)
    assert "personal-00003.undone.safetensors" in versions(tmp_path)
    store.save_version({"w": np.ones(1, np.float32)}, 5, (3, 4))
    assert not any("undone" in name for name in versions(tmp_path))
    assert not store.has_other_runs()


def test_the_final_model_of_another_run_of_the_same_name_is_kept(tmp_path: Path) -> None:
    for value, identity in ((1, "aa"), (2, "aa"), (3, "bb"), (4, "bb"), (5, "aa")):
        SiteStore(tmp_path, identity).save_model({"w": np.full(1, value, np.float32)}, round=3)
    found = {path.name: load_file(path)["w"][0] for path in tmp_path.iterdir()}
    assert found == {"personal_model.safetensors": 5, "personal_model-aa.safetensors": 2} | {
        "personal_model-bb.safetensors": 4
    }


def test_a_final_model_of_an_earlier_version_is_kept_too(tmp_path: Path) -> None:
    store = SiteStore(tmp_path, "aa")
    store.save("personal_model", {"w": np.zeros(1, np.float32)}, round=3)
    store.save_model({"w": np.ones(1, np.float32)}, round=3)
    assert len(list(tmp_path.glob("personal_model-*.safetensors"))) == 1
    assert store.load("personal_model")["w"][0] == 1  # type: ignore[index]


def test_rounds_without_end_cost_nothing(tmp_path: Path) -> None:
    """What a coordinator names is no length of a loop."""
    store = SiteStore(tmp_path)
    store.save_version({"w": np.zeros(1, np.float32)}, 1)
    store.save_version({"w": np.zeros(1, np.float32)}, 10**9, (0,), every=1)
    assert versions(tmp_path) == ["personal-00001.safetensors", "personal-1000000000.safetensors"]
