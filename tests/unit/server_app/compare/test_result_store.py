"""Stored results: whole lines or none, nothing lost beside others, and none taken for another configuration's."""

import errno
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.config import APP_ROOT, Experiment
from common.errors import UserError
from server_app.api import rows
from server_app.compare import store as storing
from server_app.compare.cells import Cell, data_fingerprint
from server_app.compare.results import write_results
from server_app.compare.store import Store

Tiny = Callable[..., Experiment]


def result(cell: Cell, level: float = 0.5, **changes: Any) -> dict[str, Any]:
    """Return what a run of this cell may have ended with."""
    metrics = {"accuracy": level, "balanced_accuracy": level, "many": level, "medium": level, "few": None}
    summary = {
        "generic": {"aux_head": {**metrics, "score": level}},
        "personal": {"final": {"mean": level, "means": {"accuracy": level}}},
        "headline": {"generic": level},
        "cost": {"seconds": 1.0, "bytes_down": 1e6, "bytes_up": 1e6},
    }
    facts = {"experiment": cell.identity(), "data": data_fingerprint(cell.experiment), "versions": {"code": "f00d"}}
    return {**facts, "summary": summary, "curves": {"aux_head": [[1, level]]}, **changes}


def cells_of(tiny: Tiny, seeds: int = 2, **changes: Any) -> list[Cell]:
    return [Cell(tiny(method="fedavg", run_name=None, seed=seed, **changes)) for seed in range(seeds)]


def begun(tiny: Tiny, folder: Path, saved: int = 2) -> tuple[Store, list[Cell]]:
    """Begin a comparison of two cells, the first of which have their results."""
    cells = cells_of(tiny)
    store = Store.begin(folder, cells)
    for cell in cells[:saved]:
        store.save(cell, result(cell))
    return store, cells


def texts(folder: Path) -> list[str]:
    return (folder / "runs.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("fednc"), "propagate", True)
    caplog.set_level(logging.INFO, "fednc")
    return caplog


def test_a_result_comes_back_as_it_was(tiny: Tiny, tmp_path: Path) -> None:
    """With a key that experiment.yaml has and it has not, one of another kind of number, and one of another version."""
    first, other = cells_of(tiny)
    odd = other.identity() | {"momentum": 0, "of-another-version": [None, "é", 1e-05]}
    del odd["participation"]
    made = result(first), result(other, experiment=odd, prototype_cosine=0.25)
    store = Store.begin(tmp_path, [first, other])
    for cell, content in zip((first, other), made, strict=True):
        store.save(cell, content)
    for again in (store, Store(tmp_path)):
        assert [json.dumps(run.result, sort_keys=True) for run in again.runs] == [
            json.dumps(content, sort_keys=True) for content in made
        ]
    line = json.loads(texts(tmp_path)[1])
    assert line["without"] == ["participation"] and line["overrides"]["momentum"] == 0


def test_experiment_yaml_has_what_all_share_in_sections(tiny: Tiny, tmp_path: Path) -> None:
    cells = [Cell(tiny(method=method, learning_rate=rate)) for method in ("fedprox", "ditto") for rate in (0.1, 0.2)]
    store = Store.begin(tmp_path, cells)
    for cell in cells:
        store.save(cell, result(cell))
    text = (tmp_path / "experiment.yaml").read_text(encoding="utf-8")
    shared, lines = yaml.safe_load(text), [json.loads(text) for text in texts(tmp_path)]
    assert text.startswith("# What the runs in runs.jsonl share")
    assert shared["data"]["dataset"] == "digits" and shared["rounds"]["rounds"] == 2
    assert "learning-rate" not in shared["train"] and not {"method", "fedprox", "ditto"} & shared.keys()
    own = [{"learning-rate", "fedprox-mu"}] * 2 + [{"learning-rate", "ditto-lambda"}] * 2
    assert [set(line["overrides"]) for line in lines] == own


@pytest.mark.parametrize("cut", [1, 100, -1])
def test_half_a_line_is_named_taken_away_and_its_run_done_again(
    cut: int, tiny: Tiny, tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    _, (first, second) = begun(tiny, tmp_path)
    whole, half = texts(tmp_path)
    (tmp_path / "runs.jsonl").write_text(f"{whole}\n{half[:cut]}")
    read = Store(tmp_path)  # names it, and leaves the file as it is
    assert read.find(first) and read.find(second) is None and read.problems.endswith("not used: line 2: half a line")
    assert {row["run"] for row in rows(tmp_path)} == {"fedavg-seed0"} and read.problems in heard.text
    again = Store.begin(tmp_path, [first, second])
    assert "ended in half a line" in heard.text and texts(tmp_path) == [whole]
    assert again.find(second) is None and not again.problems
    again.save(second, result(second))
    assert texts(tmp_path) == [whole, half]


def test_a_whole_line_may_lack_its_end(tiny: Tiny, tmp_path: Path) -> None:
    first, second = cells_of(tiny)
    Store.begin(tmp_path, [first]).save(first, result(first))
    (tmp_path / "runs.jsonl").write_text(texts(tmp_path)[0])
    Store.begin(tmp_path, [second]).save(second, result(second))
    assert [run.seed for run in Store(tmp_path).runs] == [0, 1]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda line: "{", "no JSON"),
        (lambda line: "[]", "it: should be a valid dictionary"),
        (lambda line: json.dumps({k: v for k, v in line.items() if k != "summary"}), "summary: field required"),
        (lambda line: json.dumps(line | {"seed": "0"}), "seed: should be a valid integer"),
        (lambda line: json.dumps(line | {"overrides": [1]}), "overrides: should be a valid dictionary"),
        (lambda line: json.dumps(line | {"seed": 7}), "its keys are not those that it was written with"),
    ],
)
def test_a_line_that_is_no_result_is_named_and_left_alone(
    damage: Callable[[dict[str, Any]], str], reason: str, tiny: Tiny, tmp_path: Path
) -> None:
    _, (first, second) = begun(tiny, tmp_path)
    one, two = texts(tmp_path)
    (tmp_path / "runs.jsonl").write_text(f"{damage(json.loads(one))}\n\n{two}\n")
    store = Store.begin(tmp_path, [first])
    assert store.find(first) is None and store.find(second)
    assert f"runs.jsonl: 1 line(s) are no results and not used: line 1: {reason}" in store.problems
    assert texts(tmp_path)[-1] == two


def test_experiment_yaml_that_was_changed_or_lost_ends_the_command(tiny: Tiny, tmp_path: Path) -> None:
    _, cells = begun(tiny, tmp_path)
    path = tmp_path / "experiment.yaml"
    text = path.read_text()
    path.write_text(yaml.safe_dump(yaml.safe_load(text)))  # another order is no other content
    assert len(Store(tmp_path).runs) == 2
    path.write_text(text.replace("rounds: 2", "rounds: 3"))
    for read in (Store, lambda folder: Store.begin(folder, cells), rows):
        with pytest.raises(UserError, match=r"not the one that 2 of 2 runs were written with \(the first: line 1\)"):
            read(tmp_path)
    path.unlink()
    for read in (Store, lambda folder: Store.begin(folder, cells), rows):
        with pytest.raises(UserError, match=r"experiment\.yaml is gone: runs\.jsonl builds on it; put it back"):
            read(tmp_path)
    assert not path.exists() and len(texts(tmp_path)) == 2


def test_an_experiment_yaml_of_the_users_own_is_left_alone(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text("rounds: 3\n")
    with pytest.raises(UserError, match=r"experiment\.yaml is there, and is no comparison's: choose another --output"):
        Store.begin(tmp_path, cells_of(tiny))
    assert (tmp_path / "experiment.yaml").read_text() == "rounds: 3\n" and Store(tmp_path).runs == []
    assert [path.name for path in tmp_path.iterdir()] == ["experiment.yaml"]


def test_other_configurations_and_other_data_stand_beside(tiny: Tiny, tmp_path: Path) -> None:
    cells = [Cell(tiny(method="fedavg", **keys)) for keys in ({}, {"rounds": 3}, {"head_class_size": 25})]
    for level, cell in enumerate(cells):
        store = Store.begin(tmp_path, [cell])
        assert store.find(cell) is None
        store.save(cell, result(cell, level / 10))
    old = result(cells[0], 0.9, data="of other data")
    Store.begin(tmp_path, cells[:1]).save(cells[0], old)
    store = Store(tmp_path)
    found = [store.find(cell) for cell in cells]
    assert [run and run.result for run in found] == [result(cell, level / 10) for level, cell in enumerate(cells)]
    assert len({cell.stem for cell in cells}) == 1 and [run.config for run in found if run] == [
        cell.config_hash for cell in cells
    ]
    names = list(dict.fromkeys(row["run"] for row in rows(tmp_path)))
    assert names == [cells[0].stem, *(f"{run.stem}-{run.config}" for run in store.runs[1:])] and len(names) == 4


def test_of_two_lines_of_one_result_the_later_counts(tiny: Tiny, tmp_path: Path) -> None:
    (cell,) = cells_of(tiny, 1)
    for level in (0.1, 0.2):
        Store.begin(tmp_path, [cell]).save(cell, result(cell, level))
    store = Store(tmp_path)
    assert len(texts(tmp_path)) == 2 and [run.result for run in store.runs] == [result(cell, 0.2)]


ADDS = """
import json, sys
from types import SimpleNamespace
from pathlib import Path
from server_app.compare.store import Store
experiment, folder, first = json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for seed in range(first, first + 40):
    made = experiment | {"seed": seed}
    cell = SimpleNamespace(variant="", stem=f"fedavg-seed{seed}", identity=lambda: made)
    content = {"experiment": made, "data": "d", "summary": {"long": "x" * 30000}, "curves": {}}
    Store.begin(folder, [cell]).save(cell, content)
"""


def test_two_commands_lose_none_of_each_others_results(tiny: Tiny, tmp_path: Path) -> None:
    experiment = json.dumps(Cell(tiny(method="fedavg")).identity())
    environment = os.environ | {"PYTHONPATH": str(APP_ROOT)}
    processes = [
        subprocess.Popen([sys.executable, "-c", ADDS, experiment, str(tmp_path), first], env=environment)
        for first in ("0", "100")
    ]
    seen = 0
    while any(process.poll() is None for process in processes):
        store = Store(tmp_path)  # a reader meets no half line
        assert not store.problems and len(store.runs) >= seen
        seen = len(store.runs)
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(run.seed for run in Store(tmp_path).runs) == [*range(40), *range(100, 140)]


def test_a_writer_waits_for_the_other(tiny: Tiny, tmp_path: Path) -> None:
    first, second = cells_of(tiny)
    store = Store.begin(tmp_path, [first, second])
    with storing._locked(tmp_path):
        thread = threading.Thread(target=store.save, args=(first, result(first)))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and texts(tmp_path) == []
    thread.join(10)
    assert len(texts(tmp_path)) == 1


def test_a_disk_that_is_full_leaves_whole_lines(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, (_, second) = begun(tiny, tmp_path, saved=1)
    before, write = texts(tmp_path), os.write
    monkeypatch.setattr(storing.os, "write", lambda fd, content: write(fd, content[: len(content) // 2]))
    with pytest.raises(UserError, match=r"runs\.jsonl: cannot be written \(No space left on device\); make room, or"):
        store.save(second, result(second))
    monkeypatch.undo()
    assert texts(tmp_path) == before and not Store(tmp_path).problems


def test_what_a_disk_refuses_is_named(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = cells_of(tiny, 1)

    def refuse(code: int) -> Callable[..., None]:
        def refused(*_: Any, **options: Any) -> None:
            raise OSError(code, os.strerror(code))

        return refused

    for name, code, words in (
        ("private_file", errno.EACCES, r"opened \(Permission denied\); let this user write there"),
        ("private_file", errno.EISDIR, r"opened \(Is a directory\); put that right"),
        ("fcntl.flock", errno.ENOLCK, r"locked \(No locks available\); use a disk that has locks"),
    ):
        with monkeypatch.context() as patch, pytest.raises(UserError, match=rf"runs\.jsonl: cannot be {words}"):
            patch.setattr(f"server_app.compare.store.{name}", refuse(code))
            Store.begin(tmp_path, [cell])


def test_a_save_reads_the_last_byte_alone(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, (_, second) = begun(tiny, tmp_path, saved=1)
    read, sizes = os.pread, list[int]()

    def counted(fd: int, size: int, start: int) -> bytes:
        sizes.append(size)
        return read(fd, size, start)

    monkeypatch.setattr(storing.os, "pread", counted)
    store.save(second, result(second))
    assert sizes == [1] and len(texts(tmp_path)) == 2


def test_a_line_whose_metrics_are_none_is_named(tiny: Tiny, tmp_path: Path) -> None:
    store, (_, second) = begun(tiny, tmp_path, saved=1)
    store.save(second, result(second, summary={"generic": 3}))
    with pytest.raises(
        UserError, match=r"runs\.jsonl, line 2: the metrics of fedavg-seed1 are not .*; take it out, and"
    ):
        rows(tmp_path)


# --- results of older versions ----------------------------------------------------------------------


def older(folder: Path, name: str, content: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content, indent=1) + "\n")


def test_a_folder_of_files_is_taken_over(tiny: Tiny, tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    one, two = cells_of(tiny)
    etf = Cell(tiny(method="fedloge", frame="etf"), "frame=etf")
    other = Cell(tiny(method="fedavg", rounds=9))
    made = {
        "fedavg-seed0.json": (one, result(one, 0.1)),
        "fedavg-seed1.json": (two, result(two, 0.2)),
        "fedavg-seed0-0123abcd.json": (other, result(other, 0.3)),
        "fedloge-frame-etf-seed0.json": (etf, result(etf, 0.4)),
    }
    for name, (_, content) in made.items():
        older(tmp_path, name, content)
    older(tmp_path, "notes-seed0.json", {"mine": 1})
    (tmp_path / "tables.txt").write_text("fedavg-seed0.json\n")
    (tmp_path / "results.csv").write_text("method,variant,seeds\nfedavg,,2\n")
    before = rows(tmp_path)  # who only reads changes nothing
    assert not (tmp_path / "runs.jsonl").exists() and len({row["run"] for row in before}) == 4
    store = Store.begin(tmp_path, [one, two, etf])
    for cell, content in made.values():
        run = store.find(cell)
        assert run and run.result == content and run.variant == cell.variant
    assert "4 results in files of their own are lines of runs.jsonl now" in heard.text
    assert "notes-seed0.json: is no result of a run; it stays" in heard.text
    assert {path.name for path in (tmp_path / "older").iterdir()} == made.keys()
    assert [path.name for path in tmp_path.glob("*.json")] == ["notes-seed0.json"]
    assert rows(tmp_path) == [row | {"variant": row["variant"].replace("-", "=")} for row in before]
    assert len(texts(tmp_path)) == 4
    write_results([one, two], tmp_path)
    (kept,) = (tmp_path / "tables").iterdir()
    assert {path.name for path in kept.iterdir()} == {"tables.txt", "results.csv"}
    assert len(Store.begin(tmp_path, [one]).runs) == 4 and len(texts(tmp_path)) == 4


def test_taking_over_that_was_killed_goes_on(tiny: Tiny, tmp_path: Path) -> None:
    """After the lines were written and some of the files put aside."""
    cells = cells_of(tiny, 3)
    for cell in cells:
        older(tmp_path, f"{cell.stem}.json", result(cell))
    Store.begin(tmp_path, cells)
    for cell in cells[1:]:
        (tmp_path / "older" / f"{cell.stem}.json").rename(tmp_path / f"{cell.stem}.json")
    store = Store.begin(tmp_path, cells)
    assert len(texts(tmp_path)) == 3 and [run.seed for run in store.runs] == [0, 1, 2]
    assert not list(tmp_path.glob("*-seed*.json")) and len(list((tmp_path / "older").iterdir())) == 3
