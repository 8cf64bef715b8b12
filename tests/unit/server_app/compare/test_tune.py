"""Tuning: which metric decides, which variant wins, and the one line a user gets for each mistake."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.config import ROWS, Experiment
from common.errors import UserError
from common.methods import METHODS
from server_app import cli
from server_app.compare.results import write_results
from server_app.compare.runner import Cell, data_fingerprint
from server_app.compare.store import Store
from server_app.compare.studies import product
from server_app.compare.tune import (
    choice,
    own_grids,
    ranking,
    read_grids,
    selection_metric,
    tuning_cells,
    tuning_experiment,
)

Tiny = Callable[..., Experiment]


@pytest.fixture
def on_validation(tiny: Tiny) -> Tiny:
    return lambda **changes: tiny(evaluate_on="validation", run_name=None, **changes)


def write(folder: Path, cell: Cell, generic: float | None, **personal: float | None) -> None:
    """Write a finished run's result with these metrics."""
    figures = {"generic": generic, "many": generic, "medium": generic, "few": generic}
    cost = {"seconds": 1.0, "bytes_down": 1.0, "bytes_up": 1.0}
    head = METHODS[cell.experiment.method].reported_head
    heads = {head: {"balanced_accuracy": generic, **figures}} if head else {}
    stages = {stage: {"mean": mean} for stage, mean in personal.items()}
    summary = {"generic": heads, "personal": stages, "headline": figures, "cost": cost}
    content = {"experiment": cell.identity(), "data": data_fingerprint(cell.experiment), "summary": summary}
    Store.begin(folder, [cell]).save(cell, content | {"curves": {head or "personal": [[1, 0.5]]}})


# --- grids ------------------------------------------------------------------------------------------


def test_a_product_has_every_combination_once() -> None:
    variants = product({"frame-norm": (0.1, 1.0), "learning-rate": (0.03, 0.1, 0.3)})
    assert len({variant.label for variant in variants}) == len(variants) == 6
    assert variants[1].label == "frame-norm=0.1, learning-rate=0.1"
    assert dict(variants[1].overrides) == {"frame-norm": 0.1, "learning-rate": 0.1}


@pytest.mark.parametrize("method", [name for name in METHODS if own_grids(name)])
def test_a_methods_own_grid_is_made_of_valid_experiments(tiny_for: Tiny, method: str) -> None:
    experiment = tiny_for(method, evaluate_on="validation", run_name=None)
    grids = read_grids([], experiment, {})
    cells = tuning_cells(experiment, grids, [0, 1])
    assert len({cell.stem for cell in cells}) == len({str(cell.identity()) for cell in cells}) == len(cells) > 4
    assert all(cell.experiment.data.evaluate_on == "validation" for cell in cells)
    assert all(ROWS[key].default in values for key, values in grids.items()) or (
        method == "fedrep"  # whose default is what remains of local-epochs
    )


def test_values_are_read_as_the_experiment_holds_them_and_each_once(on_validation: Tiny) -> None:
    words = ["learning-rate=1e-2, 0.01,0.10", "augment=none,flip", "fedrep-head-epochs=null,2", "head-bias=true,false"]
    assert read_grids(words, on_validation(), {}) == {
        "learning-rate": [0.01, 0.1],
        "augment": ["none", "flip"],
        "fedrep-head-epochs": [None, 2],
        "head-bias": [True, False],
    }


# --- the metric that decides ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "keys", "by", "figure"),
    [
        ("fedavg", ["learning-rate"], "", "generic"),
        ("fedloge", ["frame-norm", "learning-rate"], "", "generic"),
        ("fedrep", ["fedrep-head-epochs"], "", "personal"),
        ("ditto", ["ditto-lambda"], "", "personal"),  # λ leaves the generic model as it is
        ("ditto", ["ditto-lambda", "learning-rate"], "", "generic"),
        ("ditto", ["ditto-lambda", "learning-rate"], "both", "both"),
        ("fedavg", ["finetune-learning-rate"], "", "fine-tuned"),
        ("fedper", ["learning-rate"], "fine-tuned", "fine-tuned"),
        ("fedavg", ["learning-rate"], "personal", "personal"),
    ],
)
def test_the_default_figure_is_what_the_method_is_judged_by(
    on_validation: Tiny, method: str, keys: list[str], by: str, figure: str
) -> None:
    grids = {key: [1, 2] for key in keys}
    assert selection_metric(by, on_validation(method=method, finetune_epochs=1), grids) == figure


@pytest.mark.parametrize(
    ("method", "by", "epochs", "message"),
    [
        ("fedavg", "genric", 0, "did you mean 'generic'"),
        ("fedrep", "generic", 0, "FedRep has no generic model"),
        ("fedbn", "both", 0, "FedBN has no generic model"),
        ("fedavg", "fine-tuned", 0, "finetune-epochs = 0"),
    ],
)
def test_a_figure_that_these_runs_do_not_have_is_refused(
    on_validation: Tiny, method: str, by: str, epochs: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        selection_metric(by, on_validation(method=method, finetune_epochs=epochs), {"learning-rate": [0.1]})


# --- the choice -------------------------------------------------------------------------------------


def test_the_best_mean_over_seeds_wins_and_is_printed_to_paste(on_validation: Tiny, tmp_path: Path) -> None:
    grids = {"learning-rate": [1e-05, 0.1], "augment": ["none", "flip"]}
    cells = tuning_cells(on_validation(method="fedavg"), grids, [0, 1])
    for cell, figure in zip(cells, [0.5, 0.9, 0.6, 0.3, 0.5, 0.1, 0.8, 0.3], strict=True):
        write(tmp_path, cell, figure, final=1 - figure)
    assert [round(mean or 0, 3) for _, mean in ranking(cells, "generic", tmp_path)] == [0.7, 0.5, 0.5, 0.3]
    text = choice(cells, grids, "generic", tmp_path)
    assert text.startswith(
        "generic, mean over seeds 0, 1, on validation images:\n   70.0 %  learning-rate=0.1, augment="
    )
    assert yaml.safe_load(text.split("YAML file:")[1]) == {
        "tuned": {"fedavg": {"learning-rate": 0.1, "augment": "none"}}
    }
    assert "equal to the best" not in text
    by_personal = choice(cells, grids, "personal", tmp_path)
    pasted = yaml.safe_load(by_personal.split("YAML file:")[1])
    assert pasted == {"tuned": {"fedavg": {"learning-rate": 0.1, "augment": "flip"}}}
    by_both = choice(cells, grids, "both", tmp_path)  # both metrics add up to 1 everywhere
    assert "equal to the best: learning-rate=1e-05, augment=flip; learning-rate=0.1, augment=none" in by_both
    assert "best: learning-rate=1e-05, augment=none" in by_both
    assert "(validation-selected)" in write_results(cells, tmp_path)


def test_personal_is_the_last_stage_before_fine_tuning(on_validation: Tiny, tmp_path: Path) -> None:
    (cell,) = tuning_cells(on_validation(), {"frame-norm": [1.0]}, [0])
    write(tmp_path, cell, 0.1, final=0.2, realigned=0.3, finetuned=0.4)
    found = {by: ranking([cell], by, tmp_path)[0][1] for by in ("generic", "personal", "fine-tuned", "both")}
    assert found == {"generic": 0.1, "personal": 0.3, "fine-tuned": 0.4, "both": 0.2}
    write(tmp_path, cell, 0.1, final=0.2)
    assert ranking([cell], "personal", tmp_path) == [(cell, 0.2)]


def test_a_variant_without_every_seed_is_not_chosen(on_validation: Tiny, tmp_path: Path) -> None:
    grids = {"learning-rate": [0.1, 0.2, 0.3]}
    cells = tuning_cells(on_validation(method="fedavg"), grids, [0, 1])
    assert "nothing to choose from" in choice(cells, grids, "generic", tmp_path)
    write(tmp_path, cells[0], 0.9, final=None)
    write(tmp_path, cells[1], 0.0, final=None)
    write(tmp_path, cells[4], 0.0, final=None)
    assert [(cell.variant, mean) for cell, mean in ranking(cells, "generic", tmp_path)] == [
        ("learning-rate=0.2", 0.0),
        ("learning-rate=0.1", None),
        ("learning-rate=0.3", None),
    ]
    assert "best: learning-rate=0.2" in choice(cells, grids, "generic", tmp_path)
    assert "nothing to choose from" in choice(cells, grids, "personal", tmp_path)  # no site had a validation image


# --- a user's mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (
            ["--method", "fedavg"],
            [
                "'fedavg' has no grid",
                "ditto, fedavg_la, fedavg_la_global, fedloge, fedloge_ml, fedprox, fedrep",
                "--grid ",
            ],
        ),
        (["--grid", "learning-rate"], ["'learning-rate'", "key=value,value"]),
        (["--grid", "learning-rate="], ["'learning-rate='", "key=value,value"]),
        (["--grid", "learning-rate=0.1,,0.2"], ["'learning-rate=0.1,,0.2'", "key=value,value"]),
        (["--grid", "lerning-rate=0.1"], ["'lerning-rate'", "'0.1'", "did you mean 'learning-rate'"]),
        (["--grid", "learning-rate=0.1,-2"], ["--grid: learning-rate = -2"]),
        (["--grid", "augment=flip,turn"], ["--grid: augment = 'turn'", "'crop-flip'"]),
        (["--grid", "seed=1,2"], ["'seed=1,2'", "--seeds"]),
        (["--grid", "method=fedavg"], ["'method=fedavg'", "--method"]),
        (["--grid", "sites=4,8"], ["'sites=4,8'", "could not be compared"]),
        (["--grid", "evaluate-on=test"], ["'evaluate-on=test'", "could not be compared"]),
        (["--grid", "momentum=0.1", "--grid", "momentum=0.5"], ["'momentum=0.5'", "has a grid already"]),
        (["--grid", "momentum=0.1", "momentum=0.5"], ["momentum = 0.5", "leave out"]),
        (["evaluate-on=test", "--method", "ditto"], ["evaluate-on = 'test'", "validation"]),
        (["run-name=a"], ["run-name = 'a'", "tuning names its runs itself"]),
        (["resume=true"], ["resume = True", "--output"]),
        (["method=ditto"], ["method = 'ditto'", "--method"]),
        (["seed=1"], ["seed = 1", "--seeds"]),
        (["--method", "dito"], ["'dito'", "did you mean 'ditto'"]),
        (["--seeds", "0,x"], ["'0,x'"]),
        (["--by", "best"], ["'best'", "generic"]),
        (["--grid", "frame-norm=1,3 rounds=2"], ["'frame-norm=1,3 rounds=2'", "repeat --grid"]),
        (["validation-share=1.5"], ["validation-share = 1.5"]),
        (["dataset=npz", "data-dir=/none"], ["/none"]),
    ],
)
def test_a_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], messages: list[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fednc", "tune", "configs/digits_lt.yaml", *words])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    error = capsys.readouterr().err.strip()
    assert exit_info.value.code == 1
    assert error.startswith("error: ") and "\n" not in error
    assert [message for message in messages if message not in error] == []


def test_every_run_is_of_validation_images_whatever_the_file_says(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("evaluate-on: test\nmethod: ditto\n")
    experiment = tuning_experiment(str(path), {"rounds": 3}, "", tmp_path)
    assert (experiment.data.evaluate_on, experiment.method, experiment.rounds.rounds) == (
        "validation",
        "ditto",
        3,
    )
    values: dict[str, Any] = {"ditto-lambda": [0.5]}
    assert [cell.experiment.data.evaluate_on for cell in tuning_cells(experiment, values, [0])] == ["validation"]


def test_a_grid_may_name_a_key_with_its_section_or_its_method(on_validation: Tiny, tmp_path: Path) -> None:
    experiment = on_validation(method="fedloge")
    for words in (["fedloge.frame-norm=1,3"], ["frame-norm=1,3"], ["train.learning-rate=0.1,0.2"]):
        grids = read_grids(words, experiment, {})
        cells = tuning_cells(experiment, grids, [0])
        for value, cell in enumerate(cells):
            write(tmp_path, cell, generic=value / 10)
        key = words[0].split("=")[0].rpartition(".")[2]
        best = cells[-1].experiment.dump()[key]
        tuned = yaml.safe_load(choice(cells, grids, "generic", tmp_path).split("YAML file:")[1])
        assert tuned == {"tuned": {"fedloge": {key: best}}}
    with pytest.raises(UserError, match="frame-norm is in the grid too"):
        read_grids(["frame-norm=1,3"], experiment, {"fedloge.frame-norm": 2})
