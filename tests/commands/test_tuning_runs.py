"""Tuning: what it chooses and leaves, and the command in a process of its own."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from cell_programs import UNDRAWN, cells_begin_with
from cold import start

from common.config import Experiment
from common.data import load_dataset
from server_app.cli import main

Tiny = Callable[..., Experiment]


@pytest.mark.undrawn
def test_tuning_chooses_the_better_of_two_values_and_keeps_its_runs(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "small.yaml"
    values = tiny(rounds=4, method="fedavg", local_epochs=3, head_class_size=60, run_name=None, name="small").dump()
    config.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    words = ["fednc", "tune", str(config), "--method", "fedavg", "--grid", "learning-rate=0.0001,0.05"]
    best = "best: learning-rate=0.05; for the YAML file:\n\ntuned:\n  fedavg:\n    learning-rate: 0.05\n"
    monkeypatch.setattr("sys.argv", words)
    cells_begin_with(monkeypatch, UNDRAWN)
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert not exit_info.value.code and best in capsys.readouterr().out
    folder = tmp_path / "runs" / "tune-small-fedavg"
    written = (folder / "runs.jsonl").read_bytes()
    answer = start(*words, folder=tmp_path)  # from the kept results
    assert (answer.code, answer.error) == (0, "") and best in answer.out
    assert (folder / "runs.jsonl").read_bytes() == written and written.count(b"\n") == 2

    rows = list(csv.DictReader((folder / "results.csv").open(encoding="utf-8")))
    poor, good = (float(row["balanced_accuracy"]) for row in rows if row["head"])
    assert [row["variant"] for row in rows if row["head"]] == ["learning-rate=0.0001", "learning-rate=0.05"]
    assert good > poor + 0.2
    assert {row["measured_on"] for row in rows} == {"validation"}
    assert "(validation-selected)" in (folder / "results.md").read_text(encoding="utf-8")
    run = folder / "runs" / "fedavg-learning-rate-0.05-seed0"
    federation = json.loads((run / "federation.json").read_text())
    assert federation["evaluate_on"] == "validation"
    training = np.bincount(load_dataset(tiny()).train.labels)
    assert federation["num_test"] == np.rint(0.2 * training).sum()
    assert "held-out training images, none of test images" in (run / "log.txt").read_text()
    assert "are of validation images" in (run / "report.html").read_text()
