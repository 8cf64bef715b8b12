"""`fednc run --superlink`: an experiment at real sites, started, followed to its end, and judged truthfully.

Flower's own `flwr run` takes no experiment that is not in the app, and exits with 0 for a failed run. Status, logs and
stopping are Flower's: `flwr ls`, `flwr log`, `flwr stop`.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
import yaml

from common.config import APP_ROOT, Experiment, acting, find_config, load, read_experiment
from common.errors import UserError, shown
from server_app.engines.flower_run import QUIET, check_status, stream, tool
from server_app.engines.stopping import Stopped

_APP = ("server_app", "client_app", "common", "configs", "pyproject.toml", "README.md", "LICENSE")
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
    values = read_experiment(find_config(config, base), given.get("method")) | given
    if (partition := values.get("partition", Experiment.default("partition"))) != "deployed":
        raise UserError(f"partition = {shown(partition)}: sites on other machines need partition: deployed")
    experiment = load(config, overrides, base)
    for key, example in _FOLDERS.items():
        if isinstance(value := values.get(key), str) and not Path(value).is_absolute():
            raise UserError(f"{key} = '{value}': give the path that the coordinator's container has, e.g. {example}")
    values = acting(values, experiment)  # a key of the file may have lost its use to an override
    with tempfile.TemporaryDirectory(prefix="fednc-") as folder:
        app = write_app({**values, "name": experiment.name}, Path(folder) / "app")
        words = ["run", str(app), superlink, "--stream", "--run-config", "config='configs/run.yaml'"]
        _follow(words, superlink, folder)


def follow_run(run_id: int, superlink: str) -> None:
    """Show a run's lines from its first to its end; raise `UserError` if it fails or is stopped."""
    _follow(["log", str(run_id), superlink, "--stream"], superlink, str(Path.home()), str(run_id))


def write_app(values: Mapping[str, Any], folder: Path) -> Path:
    """Copy the app, with these keys as its `configs/run.yaml`, to a new folder, and return that.

    Raises:
        UserError: this is no checkout.
    """
    if not (APP_ROOT / "pyproject.toml").is_file():
        raise UserError(f"{APP_ROOT} has no pyproject.toml: runs between machines start from the project's folder")
    folder.mkdir()
    for name in _APP:
        if (APP_ROOT / name).is_dir():
            shutil.copytree(APP_ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(APP_ROOT / name, folder / name)
    text = yaml.safe_dump(dict(values), allow_unicode=True)
    (folder / "configs" / "run.yaml").write_text(text, encoding="utf-8")
    return folder


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
