"""FedNC in Python, as in a notebook: the example of `server_app/api.py` itself, and what each function returns."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from PIL import Image
from trained_runs import TrainedRuns

from client_app.api import load_model, predict
from common.config import APP_ROOT, Experiment
from common.data import load_dataset
from common.errors import UserError
from common.models.trained import load_trained
from server_app import api
from server_app.api import load, rounds, rows, run
from server_app.compare.cells import Cell
from server_app.compare.results import write_results
from server_app.compare.runner import compare

Tiny = Callable[..., Experiment]


def blocks(text: str | None) -> list[str]:
    """Return the Python examples of a docstring or a page."""
    return [dedent(block) for block in re.findall(r"```python\n(.*?)```", text or "", re.DOTALL)]


def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    (block,) = blocks(api.__doc__)
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(APP_ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    said = done.stdout
    assert "generic balanced_accuracy" in said and "personal accuracy" in said and "tensor([[" in said
    assert "('0', '1', '2', '3', '4', '5', '6', '7', '8', '9') [('" in said
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "report.html").is_file()


def test_the_readmes_example_runs(tmp_path: Path) -> None:
    (block,) = blocks((APP_ROOT / "README.md").read_text(encoding="utf-8"))
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "images" / "one.png")
    done = subprocess.run(
        [sys.executable, "-c", block + "print(len(table) > 9, [answer['image'] for answer in answers])"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(APP_ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.splitlines()[-1].startswith("True ['") and "one.png" in done.stdout


def test_importing_it_imports_nothing_heavy() -> None:
    program = "import sys, server_app.api, client_app.api; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(APP_ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert not {name.split(".")[0] for name in done.stdout.split()} & {"torch", "flwr", "ray", "sklearn", "numpy"}


def test_rows_are_the_metrics_of_the_run(tiny: Tiny) -> None:
    folder = run(tiny(finetune_epochs=1))
    table = rows(folder)
    assert all(row.keys() == table[0].keys() for row in table)
    summary = json.loads((folder / "summary.json").read_text())
    found = {(row["model"], row["head"], row["stage"], row["metric"]): row["value"] for row in table}
    assert len(found) == len(table)
    for head, metrics in summary["generic"].items():
        for metric in ("accuracy", "balanced_accuracy", "many", "medium", "few"):
            assert found["generic", head, "", metric] == metrics[metric]
    for stage, kept in (("trained", "final"), ("realigned", "realigned"), ("fine-tuned", "finetuned")):
        for metric, key in (("accuracy", "mean"), ("accuracy_std", "std"), ("accuracy_worst", "worst")):
            assert found["personal", "", stage, metric] == summary["personal"][kept][key]
    judged = {row["model"]: row["value"] for row in table if row["judged"] and row["metric"].endswith("accuracy")}
    assert judged["generic"] == summary["headline"]["generic"]
    assert {(row["head"], row["stage"]) for row in table if row["judged"]} == {
        ("aux_head_realigned", ""),
        ("", "realigned"),
    }
    assert found["run", "", "", "seconds"] == summary["cost"]["seconds"]


def test_rounds_have_each_site_and_the_round_behind_the_model(trained: TrainedRuns) -> None:
    folder = trained()
    table = rounds(folder)
    assert all(row.keys() == table[0].keys() for row in table)
    personal = [row for row in table if row["model"] == "personal" and row["stage"] == "trained"]
    assert {row["round"] for row in personal} == {0, 1, 2} == {r["round"] for r in table if r["model"] == "generic"}
    last = [row["value"] for row in personal if row["round"] == 2 and row["metric"] == "accuracy"]
    (mean,) = (r["value"] for r in rows(folder) if (r["stage"], r["metric"]) == ("trained", "accuracy"))
    assert np.mean(last) == pytest.approx(mean) and len(last) == 3
    assert all(row["num_test"] > 0 for row in personal)


def test_a_comparison_gives_the_rows_of_its_runs(tiny: Tiny, tmp_path: Path) -> None:
    made = [tiny(method="fedavg", seed=seed, run_name=None) for seed in (0, 1)]
    cells = [Cell(made[0]), Cell(made[1]), Cell(made[0].replace(rounds=1), "1 round")]
    assert compare(cells, tmp_path / "out", 1) == 0
    write_results(cells, tmp_path / "out")
    table = rows(tmp_path / "out")
    assert {(row["run"], row["variant"], row["seed"]) for row in table} == {
        ("fedavg-seed0", "", 0),
        ("fedavg-seed1", "", 1),
        ("fedavg-1-round-seed0", "1 round", 0),
    }
    judged_by = [r for r in table if r["judged"] and r["metric"] == "balanced_accuracy" and r["model"] == "generic"]
    both = [row["value"] for row in judged_by if not row["variant"]]
    wide = csv.DictReader((tmp_path / "out" / "results.csv").open())
    judged = [line for line in wide if line["model"] == "generic" and line["judged"] == "1" and not line["variant"]]
    assert both == [float(line["balanced_accuracy"]) for line in judged]


def test_models_answer_arrays_and_files(tiny: Tiny, trained: TrainedRuns, tmp_path: Path) -> None:
    experiment = tiny()
    folder = trained()
    images = load_dataset(experiment).test.batch(np.arange(4))
    (tmp_path / "images").mkdir()
    for i, image in enumerate(images.numpy()):
        Image.fromarray(image[0]).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    own = folder / "sites" / "site-01" / "personal_model.safetensors"
    for model, same in (
        (load_model(folder), load_trained(folder)),
        (load_model(str(folder), site="site-01"), load_trained(folder, own)),
        (load_model(folder, head="frame"), load_trained(folder, head="frame")),
        (load_model(folder, personal=str(own)), load_trained(folder, own)),
    ):
        expected = same(images).detach().numpy()
        labels = [(model.classes[i],) for i in expected.argmax(axis=1)]
        assert model.predict(images) == model.predict(images.numpy()) == labels
        assert model.predict(images[:0]) == []
        *answers, broken = predict(model, str(tmp_path / "images"))
        assert [(row["predicted"],) for row in answers] == labels
        shown = [[row[f"p:{name}"] for name in model.classes] for row in answers]
        np.testing.assert_allclose(shown, expected, rtol=1e-5)
        assert broken["image"] == "broken.png" and broken["error"] and broken["p:0"] is None


def test_mistakes_are_errors_for_people(tiny: Tiny, trained: TrainedRuns, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"load: 2 mistakes: .*did you mean 'rounds'.*; sites = 0"):
        load("configs/digits_lt.yaml", rouds=2, sites=0)
    with pytest.raises(UserError, match="engine = 'spark': allowed: flower, local"):
        run(tiny(), engine="spark")
    with pytest.raises(UserError, match="has neither a run nor results"):
        rows(tmp_path)
    with pytest.raises(UserError, match=r"is .* a run's folder\?"):
        rounds(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"the run has not ended: it has no summary\.json"):
        rows(tmp_path)
    with pytest.raises(UserError, match="holds no site's model"):
        load_model(tmp_path, site="site-00")
    with pytest.raises(UserError, match="give one of them"):
        load_model(tmp_path, site="site-00", head="frame")
    folder = trained()
    with pytest.raises(UserError, match=r"unknown site 'site-9' \(did you mean .*\); known: site-00, site-01, site-02"):
        load_model(folder, site="site-9")
    with pytest.raises(UserError, match=r"float32 \[1, 3, 8, 8\]: expected torch\.uint8 \[B, 1, 8, 8\]"):
        load_model(folder).predict(np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(UserError, match="there is no such file or folder"):
        predict(load_model(folder), "nowhere")
