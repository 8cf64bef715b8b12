"""`fednc run --superlink`: run an experiment at real sites, stream its log, and report its true exit status.

Flower's own `flwr run` takes no experiment that is not in the app, and exits with 0 for a failed run. Status, logs and
stopping are Flower's: `flwr ls`, `flwr log`, `flwr stop`.
"""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer
import yaml

from common.config import Experiment, drop_ineffective, find_config, load, read_experiment
from common.config.layout import merged
from common.config.overrides import everyday_values
from common.errors import UserError
from server_app.engines.flower_app import write_app
from server_app.engines.flower_run import QUIET, check_status, run_config, stream, tool
from server_app.engines.stopping import Stopped

_FOLDERS = {"data-dir": "/data", "output-dir": "/results"}  # and where the coordinator's container has them


def run_deployed(config: str, overrides: Mapping[str, Any], superlink: str, base: Path) -> None:
    """Run an experiment at real sites and show its lines; to stop looking (Ctrl-C) does not stop it.

    Args:
        config: a YAML file: absolute, below `base`, or a shipped one.
        overrides: keys that go before the file's.
        superlink: a connection of Flower's `config.toml`.
        base: the user's folder.

    Raises:
        UserError: an experiment that is not for real sites, no SuperLink, or the run failed or was stopped.
    """
    given = {key: value for key, value in overrides.items() if value != ""}
    values: dict[str, Any] = {}
    with suppress(UserError):  # `load` says it, with all that is wrong beside
        values = merged([read_experiment(find_config(config, base), given.get("method")), given])
    if (partition := values.get("partition", Experiment.default("partition"))) in ("dirichlet", "iid", "natural"):
        raise UserError(f"partition = '{partition}': sites on other machines need partition: deployed")
    experiment = load(config, overrides, base)
    for key, example in _FOLDERS.items():
        if isinstance(value := values.get(key), str) and not Path(value).is_absolute():
            raise UserError(f"{key} = '{value}': give the path that the coordinator's container has, e.g. {example}")
    values = drop_ineffective(values, experiment)  # a key of the file may have lost its use to an override
    with tempfile.TemporaryDirectory(prefix="fednc-") as folder:
        app = write_app(Path(folder) / "app")
        _write_experiment({**values, "name": experiment.name}, app / "configs" / "run.yaml")
        given_config = {"config": "configs/run.yaml", **everyday_values(experiment)}
        words = ["run", str(app), superlink, "--stream", "--run-config", run_config(given_config)]
        _follow(words, superlink, folder)


def follow_run(run_id: int, superlink: str) -> None:
    """Show a run's lines from its first to its end; raise `UserError` if it fails or is stopped."""
    _follow(["log", str(run_id), superlink, "--stream"], superlink, str(Path.home()), str(run_id))


def _write_experiment(values: Mapping[str, Any], path: Path) -> None:
    """Put the keys into the app, as they are: what a path means, the coordinator's container knows."""
    path.write_text(yaml.safe_dump(dict(values), allow_unicode=True, sort_keys=False), encoding="utf-8")


def _follow(words: list[str], superlink: str, folder: str, run_id: str = "") -> None:
    known = run_id

    def begun(number: str) -> None:
        nonlocal known
        known = number
        typer.echo(f"run {number}: {_how(number, superlink)}")

    environment = {**os.environ, **QUIET}
    try:
        run_id = stream([*tool("flwr"), *words], environment, folder, run_id, begun)
    except Stopped as stop:
        if known:
            stop.add_note(f"run {known} goes on: {_how(known, superlink)}")
        else:
            stop.add_note(f"the SuperLink may have taken the run already: `flwr ls {superlink}` shows it")
        raise
    check_status(run_id, superlink, environment, folder)


def _how(run_id: str, superlink: str) -> str:
    again = f"fednc follow {run_id} --superlink {superlink}"
    return f"`{again}` shows these lines again, `flwr stop {run_id} {superlink}` ends it"
