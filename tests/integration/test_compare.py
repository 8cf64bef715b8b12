import csv
import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from cell_programs import UNDRAWN, cells_begin_with
from PIL import Image
from safetensors.numpy import load_file

import server_app.compare.runner as comparing
from common.config import APP_ROOT, ROWS, Experiment, load
from common.errors import UserError
from common.methods import METHODS
from server_app.cli import main
from server_app.compare.cells import own_run_folder
from server_app.compare.results import write_results
from server_app.compare.runner import Cell, compare, curves, data_fingerprint
from server_app.compare.store import Store
from server_app.engines.engines import run_local
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]


def read_result(folder: Path, cell: Cell) -> dict[str, Any] | None:
    run = Store(folder).find(cell)
    return run.result if run else None


def lines_of(folder: Path) -> list[str]:
    return (folder / "runs.jsonl").read_text(encoding="utf-8").splitlines()


def save(folder: Path, cell: Cell, **changes: Any) -> dict[str, Any]:
    """Keep a result of this cell, and return it."""
    content = {"experiment": cell.identity(), "data": data_fingerprint(cell.experiment), "summary": {}, "curves": {}}
    Store.begin(folder, [cell]).save(cell, content | changes)
    return content | changes


# before a cell's program: its sites train in round 3 until the process is stopped
HELD_IN_ROUND_3 = """
import pathlib, time
import client_app.app as site_code
real = site_code.train_site
def train_site(*args, **kwargs):
    if args[3] == 3:
        pathlib.Path({mark!r}).touch()
        time.sleep(900)
    return real(*args, **kwargs)
site_code.train_site = train_site
"""


@pytest.fixture(autouse=True)
def _cells_draw_no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    cells_begin_with(monkeypatch, UNDRAWN)


def test_a_comparison_keeps_finished_runs_and_writes_tables(tiny: Tiny, tmp_path: Path) -> None:
    cells = [Cell(tiny(method=m, seed=0, rounds=1, run_name=None)) for m in ("fedavg", "fedloge")]
    folder = tmp_path / "results"
    assert compare(cells, folder, jobs=2) == 0
    write_results(cells, folder)
    kept = lines_of(folder)
    assert sorted(json.loads(line)["method"] for line in kept) == ["fedavg", "fedloge"]
    assert str(tmp_path) not in "".join(kept) + (folder / "experiment.yaml").read_text()  # no paths of this machine

    more = [*cells, Cell(tiny(method="fedavg", seed=1, rounds=1, run_name=None))]
    assert compare(more, folder, jobs=1) == 0
    assert "FedLoGe" not in write_results([more[2]], folder)

    def cell_of(method: str, seed: int) -> Cell:
        return Cell(tiny(method=method, seed=seed, rounds=1, run_name=None))

    write_results([more[2]], folder, cell_of)  # a smaller command leaves the others' rows in the table
    assert lines_of(folder)[:2] == kept and len(lines_of(folder)) == 3  # not run again
    rows = list(csv.DictReader((folder / "results.csv").open(encoding="utf-8")))
    assert [(r["run"], r["head"], r["judged"]) for r in rows if r["model"] == "generic"] == [
        ("fedavg-seed0", "aux_head", "1"),
        ("fedavg-seed1", "aux_head", "1"),
        ("fedloge-seed0", "aux_head", "0"),
        ("fedloge-seed0", "aux_head_realigned", "1"),
        ("fedloge-seed0", "frame", "0"),
    ]
    judged = [row for row in rows if row["method"] == "fedloge" and row["judged"] == "1"]
    summary = next(json.loads(line)["summary"] for line in kept if json.loads(line)["method"] == "fedloge")
    assert [row["stage"] for row in judged] == ["", "realigned"]
    assert float(judged[1]["accuracy"]) == summary["personal"]["realigned"]["means"]["accuracy"]
    page = (folder / "results.html").read_text(encoding="utf-8")
    assert "runs: 3 of 3" in page and f"{100 * float(judged[0]['balanced_accuracy']):.1f}" in page


def test_a_comparison_stops_when_its_time_is_up_and_goes_on(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was stopped amid a round ends as one that never was."""
    cell = Cell(tiny(method="fedloge", rounds=4, finetune_epochs=1, run_name=None))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_folder = cut / "runs" / cell.stem
    assert compare([cell], cut, jobs=1, minutes=0) == 0
    assert not run_folder.exists()  # nothing was begun

    def late() -> float:
        return time.monotonic() + 3600 * (run_folder / "third").exists()

    with monkeypatch.context() as patch:
        patch.setattr(comparing, "time", SimpleNamespace(sleep=time.sleep, monotonic=late))
        cells_begin_with(patch, UNDRAWN + HELD_IN_ROUND_3.format(mark=str(run_folder / "third")))
        assert compare([cell], cut, jobs=1, minutes=30) == 0
    assert read_result(cut, cell) is None
    for folder in (cut, whole):
        assert compare([cell], folder, jobs=1) == 0
    begun = [event["round"] for event in read_events(run_folder) if event["event"] == "begin"]
    assert begun == [0, 2]
    results = [read_result(folder, cell) for folder in (whole, cut)]
    for result in results:
        assert result is not None
        assert result["summary"].pop("cost")["images_per_second"] > 0
    assert results[0] == results[1]
    names = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert names
    for name in names:
        ours, theirs = load_file(whole / name), load_file(cut / name)
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_a_result_of_another_configuration_or_other_data_is_not_taken(tiny: Tiny, tmp_path: Path) -> None:
    cell = Cell(tiny(method="fedavg"))
    content = save(tmp_path / "same", cell)
    assert read_result(tmp_path / "same", cell) == content
    assert read_result(tmp_path / "same", Cell(tiny(method="fedavg", rounds=9))) is None
    assert read_result(tmp_path / "same", Cell(tiny(method="fedavg", output_dir=tmp_path))) == content
    save(tmp_path / "other", cell, data="other")
    assert read_result(tmp_path / "other", cell) is None
    assert write_results([], tmp_path) == "no finished runs\n"


def test_a_result_depends_on_the_keys_that_its_method_reads(tiny: Tiny) -> None:
    def same(method: str, **changes: object) -> bool:
        return Cell(tiny(method=method)).identity() == Cell(tiny(method=method, **changes)).identity()

    assert same("fedavg", fedprox_mu=0.5) and not same("fedprox", fedprox_mu=0.5)
    assert not same("fednca_ml", frame_trains=True) and not same("fedloge_ml", frame_trains=True)
    assert same("fedavg", frame_trains=True)
    other: dict[str, object] = {
        **dict.fromkeys(("frame", "query-frame"), "etf"),
        **{"frame-loss": "dot-regression", "realign": "none", "realign-bias": "drop", "realign-global": "none"},
        **{
            "frame-projection": True,
            "frame-trains": True,
            "feature-range": 8,
            "ridge-balance": 0.5,
            "own-balance": 0.5,
        },
    }
    for key, row in ROWS.items():
        changed = {key.replace("-", "_"): other.get(key, 3)}
        if row.acts.methods:
            method = next(name for name in METHODS if name not in row.acts.methods)
            assert same(method, **changed), key
    for idle in ({"sparsity": 0.2}, {"mma_steps": 3}, {"attention_heads": 2}, {"wrong_sites": 2}, {"rest_rounds": 9}):
        assert same("fedavg", **idle) == ("rest_rounds" not in idle), idle
    assert not same("fedloge", sparsity=0.2) and not same("fedloge", realign="none")


def test_a_result_of_a_key_that_did_nothing_is_found_again(tiny: Tiny, tmp_path: Path) -> None:
    plain, typed = Cell(tiny(method="fedavg")), Cell(tiny(method="fedavg", sparsity=0.2))
    written = plain.experiment.dump() | {"sparsity": 0.2, "frame-norm": 0.3}  # as a result of an older version
    content = save(tmp_path, plain, experiment=written)
    assert read_result(tmp_path, plain) == read_result(tmp_path, typed) == content
    assert read_result(tmp_path, Cell(tiny(method="fedavg", momentum=0.1))) is None


def test_a_folder_that_cannot_be_written_is_named(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file in the way")
    with pytest.raises(UserError, match=r"cannot write to .*choose another"):
        compare([Cell(tiny())], tmp_path, jobs=1)


def test_an_interrupted_run_leaves_nothing_to_the_next(tiny: Tiny, tmp_path: Path) -> None:
    cell = Cell(tiny(method="fedloge", rounds=1))
    stale = tmp_path / "runs" / cell.stem / "sites" / "site-00" / "personal.safetensors"
    stale.parent.mkdir(parents=True)
    stale.write_text("of an earlier run")
    assert compare([cell], tmp_path, jobs=1) == 0


def test_an_interrupted_run_of_the_same_cell_is_taken_up(tiny: Tiny, tmp_path: Path) -> None:
    cell = Cell(tiny(method="fedloge", rounds=3))
    run_local(tiny(method="fedloge", rounds=3, output_dir=tmp_path / "runs", run_name=cell.stem))
    folder = tmp_path / "runs" / cell.stem
    (folder / "checkpoints" / "round-00003.safetensors").unlink()
    assert compare([cell], tmp_path, jobs=1) == 0
    assert "taken up after round 2 of 3" in (folder / "log.txt").read_text()
    result = read_result(tmp_path, cell)
    assert result is not None and len(result["curves"]["personal"]) == 3


def test_a_failing_run_is_reported_and_the_others_finish(tiny: Tiny, tmp_path: Path) -> None:
    bad = Cell(tiny(method="fedavg", width=4, image_size=2))
    good = Cell(tiny(method="fedloge", rounds=1))
    assert compare([bad, good], tmp_path / "results", jobs=1) == 1
    assert [run.stem for run in Store(tmp_path / "results").runs] == ["fedloge-seed0"]
    assert "cnn" in (tmp_path / "results" / "runs" / "fedavg-seed0" / "log.txt").read_text()


def test_a_study_from_the_command_line(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump({k: v for k, v in tiny(rounds=1).dump().items() if v is not None}))
    words = ["fednc", "compare", str(config), "--study", "table3", "--seeds", "0", "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert not exit_info.value.code
    printed = capsys.readouterr().out
    assert "| FedLoGe, frame=etf | ψ |" in printed and "| FedLoGe, frame=sparse_etf | ψ |" in printed
    assert [(run.method, run.variant) for run in Store(tmp_path / "out").runs] == [
        ("fedloge", "frame=etf"),
        ("fedloge", "frame=sparse_etf"),
    ]


def test_a_round_in_which_nothing_could_be_measured_has_no_point(tmp_path: Path) -> None:
    """A sample of sites without test images has no mean: null in the journal, a gap in the curve."""
    lines = [
        {"event": "personal", "stage": "arrival", "round": 1, "mean": None},
        {"event": "personal", "stage": "arrival", "round": 6, "mean": 0.5},
        {"event": "generic", "head": "aux_head", "round": 5, "balanced_accuracy": 0.25},
        {"event": "round", "round": 5},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    assert curves(tmp_path) == {"personal": [[5, 0.5]], "aux_head": [[5, 0.25]]}


def test_another_configuration_leaves_finished_runs_and_tables_as_they_are(tiny: Tiny, tmp_path: Path) -> None:
    """In one folder: other rounds, then other data; and who runs the former command again finds its results."""
    cells = [Cell(tiny(method="fedavg", rounds=rounds, run_name=None)) for rounds in (1, 2)]
    cells.append(Cell(tiny(method="fedavg", rounds=1, head_class_size=25, run_name=None)))
    assert compare(cells[:1], tmp_path, jobs=1) == 0
    write_results(cells[:1], tmp_path)
    shown = [path for pattern in ("*.md", "results.*", "charts/*") for path in tmp_path.glob(pattern)]
    tables = {path.relative_to(tmp_path): path.read_bytes() for path in shown}
    assert Path("results.html") in tables and Path("charts/generic-by-round.pdf") in tables
    before = contents_of(tmp_path) - {*tables, Path("runs.jsonl")}
    texts, first = {path: (tmp_path / path).read_bytes() for path in before}, lines_of(tmp_path)
    for cell in cells[1:]:
        assert compare([cell], tmp_path, jobs=1) == 0
        write_results([cell], tmp_path, lambda method, seed, cell=cell: cell)
    assert {path: (tmp_path / path).read_bytes() for path in before} == texts
    assert lines_of(tmp_path)[:1] == first and len(lines_of(tmp_path)) == 3
    others = list((tmp_path / "tables").iterdir())
    kept = [{path: (folder / path).read_bytes() for path in contents_of(folder)} for folder in others]
    assert len(kept) == 2 and tables in kept
    results = [read_result(tmp_path, cell) for cell in cells]
    assert [result and result["experiment"]["rounds"] for result in results] == [1, 2, 1]
    assert len({json.dumps(result) for result in results}) == 3
    files = contents_of(tmp_path)
    assert compare(cells, tmp_path, jobs=1) == 0  # nothing is run again
    write_results(cells[:1], tmp_path, lambda method, seed: cells[0])
    assert tables == {name: (tmp_path / name).read_bytes() for name in tables}
    assert {path for path in contents_of(tmp_path) if path.parts[0] != "tables"} == {
        path for path in files if path.parts[0] != "tables"
    }


def contents_of(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_keys_that_do_not_decide_a_result_do_not_void_it(tiny: Tiny, tmp_path: Path) -> None:
    cell = Cell(tiny(method="fedavg"))
    content = save(tmp_path, cell, experiment=cell.experiment.dump())  # as of older versions
    changes = {"round_timeout": 9, "round_retries": 0, "max_step": 5, "checkpoint_every": 2, "image_memory": 1}
    for key, value in {**changes, "name": "other", "report_images": True}.items():
        assert read_result(tmp_path, Cell(tiny(method="fedavg", **{key: value}))) == content, key
    for key, value in {"rounds": 3, "evaluate_every": 2, "participation": 0.5, "quorum": 1.0}.items():
        assert read_result(tmp_path, Cell(tiny(method="fedavg", **{key: value}))) is None, key


def test_committed_results_of_earlier_versions_are_still_found() -> None:
    folder = APP_ROOT / "tests" / "benchmarks" / "results" / "digits_lt_wire"
    found = [
        read_result(folder, Cell(load("configs/digits_lt.yaml", {"method": m, "seed": s, "wire": w}), f"wire={w}"))
        for m in ("fedavg", "fedloge")
        for w in ("single", "half")
        for s in (0, 1, 2)
    ]
    assert all(found)


def test_a_comparison_says_what_is_noted_of_its_data_once(
    tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for side, name in ((side, name) for side in ("train", "test") for name in "ab"):
        (tmp_path / "data" / side / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / side / name / f"{i}.png")
    shutil.copy(tmp_path / "data/train/a/0.png", tmp_path / "data/test/a/copy.png")
    plain = {"dataset": "image-folder", "data_dir": tmp_path / "data", "imbalance_factor": 1, "sites": 2}
    monkeypatch.setattr(logging.getLogger("fednc"), "propagate", True)
    cells = [Cell(tiny(method=method, head_class_size=None, **plain)) for method in ("fedavg", "fedloge")]
    assert compare(cells, tmp_path / "out", jobs=1, minutes=0) == 0  # starts nothing
    said = "image-folder: 1 image is in training and in test"
    assert [record.message.startswith(said) for record in caplog.records].count(True) == 1


@pytest.mark.parametrize(
    ("partition", "groups", "meant"), [("iid", True, False), ("iid", False, None), ("natural", True, None)]
)
def test_a_result_from_before_patients_were_kept_together(
    partition: str, groups: bool, meant: bool | None, tiny: Tiny, tmp_path: Path
) -> None:
    """It is one of `keep-patients: false` where that matters, and of either value where not."""
    rng = np.random.default_rng(0)
    arrays = {"x": rng.integers(0, 256, (40, 8, 8), np.uint8), "y": np.arange(40) % 2, "is_test": np.arange(40) > 29}
    np.savez(tmp_path / "x.npz", center=np.arange(40) % 4 % 2, patient=np.arange(40) // 2, **arrays)
    keys = {"partition": partition, "site_key": "center" if partition == "natural" else None}
    keys |= {"dataset": "npz", "data_dir": tmp_path / "x.npz", "group_key": "patient" if groups else None}

    def cell(**more: Any) -> Cell:
        return Cell(tiny(method="fedavg", head_class_size=None, imbalance_factor=1, sites=2, **keys, **more))

    values = {key: value for key, value in cell().experiment.dump().items() if key != "keep-patients"}
    save(tmp_path, cell(), experiment=values)
    assert (read_result(tmp_path, cell()) is not None) == (meant is None)
    if meant is not None:
        assert read_result(tmp_path, cell(keep_patients=meant)) is not None


@pytest.mark.parametrize(("backbone", "expected"), [("resnet18", "bilinear"), ("efficientnet_b0", "bicubic")])
@pytest.mark.parametrize("size", [16, None])
def test_a_result_from_before_weights_decided_the_interpolation(
    backbone: str, expected: str, size: int | None, tiny: Tiny, tmp_path: Path
) -> None:
    """It is one of bicubic images, whatever its weights expect; where nothing is resized, of either."""
    (weights := tmp_path / "w.pth").write_bytes(b"weights")

    def cell(interpolation: str | None) -> Cell:
        keys = {"backbone": f"torchvision:{backbone}", "width": None, "weights": str(weights), "image_size": size}
        return Cell(tiny(method="fedavg", **keys).replace(interpolation=interpolation))

    older = cell(None).experiment.dump() | cell(None).identity()  # which has the hash of the weights
    older.pop("interpolation")
    for given in (None, "bicubic", "bilinear"):
        result = {"experiment": older, "data": data_fingerprint(cell(given).experiment)}
        assert cell(given).made(result) == (size is None or (given or expected) == "bicubic")


def test_an_interrupted_run_of_other_data_or_code_stays_where_it_is(tiny: Tiny, tmp_path: Path) -> None:
    cell = Cell(tiny(method="fedavg", rounds=1))
    for name, content in (("versions.json", {"code": "other"}), ("cell.json", {"data": "other"})):
        folder = tmp_path / name
        run_local(tiny(method="fedavg", rounds=1, output_dir=folder / "runs", run_name=cell.stem))
        (folder / "runs" / cell.stem / name).write_text(json.dumps(content))
        before = {path: (folder / path).read_bytes() for path in contents_of(folder)}
        assert compare([cell], folder, jobs=1) == 0
        assert {path: (folder / path).read_bytes() for path in before} == before
        assert {path.name for path in (folder / "runs").iterdir()} == {cell.stem, f"{cell.stem}-{cell.config_hash}"}
        assert own_run_folder(folder, cell).name == f"{cell.stem}-{cell.config_hash}"
