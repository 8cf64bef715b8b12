"""FedNC in Python: read an experiment, run it, and get its metrics as rows for a dataframe.

`client_app/api.py` has what comes after: a finished model and its answers. What a person can put right is raised as
`common.errors.UserError`, whose text says what was wrong, where, and what to do.

Example:
    ```python
    import numpy as np

    from client_app.api import load_model
    from common.data import load_dataset
    from server_app.api import load, rounds, rows, run

    experiment = load("configs/digits_lt.yaml", rounds=2, sites=2, output_dir="runs")
    folder = run(experiment, engine="local")

    table = rows(folder)  # pandas.DataFrame(table), or polars.DataFrame(table)
    for row in table:
        if row["judged"]:
            print(row["model"], row["metric"], row["value"])
    curve = [(row["round"], row["value"]) for row in rounds(folder) if row["metric"] == "balanced_accuracy"]

    images = load_dataset(experiment).test.batch(np.arange(8))  # uint8 [8, 1, 8, 8]
    generic = load_model(folder)
    print(generic.classes, generic.predict(images))
    personal = load_model(folder, site="site-00")
    print(personal(images))  # probabilities [8, 10]
    ```

Importing it imports neither PyTorch nor Flower: what needs them does, when it is called.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config import DEFAULT_CONFIG, Experiment, build
from common.config import load as load_experiment
from common.errors import UserError
from common.methods import METHODS

__all__ = ["Experiment", "load", "rounds", "rows", "run"]

Row = dict[str, Any]


def load(config: str | Path = DEFAULT_CONFIG, **keys: Any) -> Experiment:
    """Read an experiment.

    Args:
        config: a YAML file: absolute, below the working folder, or a shipped one.
        keys: go before the file's, with `_` for `-`; `common/config/sections` has them all.

    Raises:
        UserError: all unknown keys, impossible values, contradictions and keys without effect; no such file.

    Example:
        `load("configs/cifar10_lt.yaml", method="fedloge", learning_rate=0.05, seed=1)`
    """
    given = {key if key in METHODS else key.replace("_", "-"): value for key, value in keys.items()}
    return load_experiment(config, given, base=Path.cwd(), sources=dict.fromkeys(given, "load"))


def run(experiment: Experiment, engine: str = "local") -> Path:
    """Run an experiment with simulated sites to its end and return the run's folder.

    Its lines go to standard output, as those of `fednc run`. With `run-name` and `resume` it goes on from the last
    checkpoint.

    Args:
        experiment: of `load`.
        engine: 'local', in this process, or 'flower', a Ray simulation in processes of its own; the metrics are equal.

    Raises:
        UserError: an unknown engine, images that are at real sites or cannot be read, or the run failed.
        WireError: too few sites answered.

    Example:
        `folder = run(load(rounds=5, sites=4))`
    """
    from server_app.checks.override_checks import check_simulated
    from server_app.engines.choices import check_engine

    check_engine(engine)
    check_simulated(experiment)
    import torch

    from server_app.checks.feasibility import check_feasible
    from server_app.engines.engines import run_experiment
    from server_app.engines.resume_hint import named_run
    from server_app.run.journal import quiet_logging

    quiet_logging()
    check_feasible(experiment)
    threads = torch.get_num_threads()  # which the local engine changes
    try:
        with named_run(experiment) as (named, folder):
            run_experiment(named, engine)
    finally:
        torch.set_num_threads(threads)
    return folder


def rows(folder: str | Path) -> list[Row]:
    """Return the metrics that a finished run, or each run of a comparison, ended with: one flat dict a metric.

    Every row has all of these keys; '' stands for what a row does not have:

    - `run`: the name of the run's folder, or of a comparison's run; `method`, `seed`, `dataset`; `variant`, a study's;
      `measured_on`: 'test' or 'validation'
    - `model`: 'generic', 'personal', or 'run' for the cost of a round
    - `head`: of the generic model; `stage`: of the personal ones: 'trained', 'realigned' or 'fine-tuned'
    - `judged`: whether it is the head, or the stage, that the method is judged by
    - `metric`, `value`: shares in 0..1, seconds, bytes; None where nothing could be measured. Personal ones are means
      over sites; of the first of them `…_std` and `…_worst` follow.

    Args:
        folder: of a run, or of `fednc compare`.

    Raises:
        UserError: it is neither, or a file in it is damaged.

    Example:
        `pandas.DataFrame(rows("results")).query("judged").pivot_table("value", "method", ["model", "metric"])`
    """
    from server_app.run.journal import log, read_json

    folder = Path(folder).resolve()
    if (folder / "config.json").is_file():
        if not (summary := read_json(folder / "summary.json")):
            raise UserError(f"{folder}: the run has not ended: it has no summary.json; continue it with resume=true")
        config = read_json(folder / "config.json")
        return _rows_of((f"{folder / 'summary.json'}", "put a copy back"), folder.name, None, config, summary)
    from server_app.compare.store import Store

    store, table = Store(folder), list[Row]()
    if not store.runs:
        raise UserError(f"{folder}: has neither a run nor results of `fednc compare`")
    if store.problems:
        log.warning(store.problems)
    names: set[str] = set()
    for found in store.runs:
        name = f"{found.stem}-{found.config}" if found.stem in names else found.stem
        names.add(name)
        damaged = found.where, "take it out, and the same `fednc compare` makes the run again"
        table += _rows_of(damaged, name, found.variant, found.result["experiment"], found.result["summary"])
    return table


def _rows_of(damaged: tuple[str, str], name: str, variant: str | None, values: Any, summary: Any) -> list[Row]:
    """Return a run's rows; `damaged` says where its metrics were read, and what to do if they are none."""
    from server_app.compare.lines import variant_in
    from server_app.compare.tidy import facts_of, models_of

    try:
        experiment = build(values, name)
        if variant is None:  # a run's folder says no more than its name
            variant = variant_in(name, experiment.method, experiment.run.seed)
        facts = facts_of(name, variant, experiment)
        return [
            {**facts, **about, **_measured(key, value)}
            for about, metrics in models_of(METHODS[experiment.method], summary)
            for key, value in metrics.items()
        ]
    except (KeyError, TypeError, AttributeError, StopIteration):
        where, todo = damaged
        raise UserError(f"{where}: the metrics of {name} are not as a run leaves them; {todo}") from None


def rounds(folder: str | Path) -> list[Row]:
    """Return what a run measured while it trained: one flat dict a metric of a generic head, or of a site, and round.

    Every row has `round`, the rounds of training behind the model; `model`: 'generic' or 'personal'; `head`, of the
    generic model, or ''; `site` and `stage` of a personal one, or ''; `metric` and `value` as in `rows`. Images for
    testing differ from site to site in number: `num_test` says how many there were, None for the generic model.

    Args:
        folder: of a run, finished or not; that of a comparison has its runs' below `runs/`.

    Raises:
        UserError: it is no run's folder.

    Example:
        `pandas.DataFrame(rounds(folder)).query("model == 'personal'").groupby(["round", "metric"]).value.mean()`
    """
    from server_app.compare.tidy import STAGES
    from server_app.run.journal import read_events

    table: list[Row] = []
    for event in read_events(Path(folder).resolve()):
        number = event.get("round")
        if event["event"] == "generic":
            about = {"round": number, "model": "generic", "head": event["head"], "site": "", "stage": ""}
            scores = {key: value for key, value in event.items() if key not in ("round", "time")}
            table += _measured_rows(about, scores, None)
        elif event["event"] == "personal" and event["stage"] in STAGES:
            behind = event["round"] - (event["stage"] == "arrival")  # what arrives has not been trained in the round
            about = {"round": behind, "model": "personal", "head": "", "stage": STAGES[event["stage"]]}
            for site, scores in event.get("sites", {}).items():
                table += _measured_rows(about | {"site": site}, scores, scores.get("num_test"))
    return table


def _measured_rows(about: Mapping[str, Any], scores: Mapping[str, Any], num_test: int | None) -> list[Row]:
    """Return a row for each number among the scores; words and lists are none."""
    numbers = {key: value for key, value in scores.items() if value is None or isinstance(value, int | float)}
    return [
        {**about, "num_test": num_test, **_measured(key, value)} for key, value in numbers.items() if key != "num_test"
    ]


def _measured(metric: str, value: float | None) -> Row:
    return {"metric": metric, "value": value}
