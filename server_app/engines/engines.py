"""The engines that run an experiment: Flower's simulation, or this process. Same apps, equal arrays."""

import os
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import yaml
from flwr.clientapp import ClientApp

from common.architectures import architecture
from common.config import Experiment
from common.config.overrides import everyday_values
from common.data import build_federation
from common.installed import check_installed
from common.models.model import pick_device
from server_app.app import run
from server_app.engines.choices import check_engine
from server_app.engines.flower_run import flower_run
from server_app.engines.workers import worker_resources
from server_app.grids.local_grid import LocalGrid
from server_app.run.journal import quiet_logging

CLIENT_APP = "client_app.app:app"  # as in pyproject.toml; loaded by name, so the rooms stay apart


def run_experiment(experiment: Experiment, engine: str) -> None:
    """Run an experiment with a named engine.

    Raises:
        UserError: an unknown engine, or the run failed.
    """
    check_engine(engine)
    _ENGINES[engine](experiment)


def run_flower(experiment: Experiment) -> None:
    """Run an experiment in Flower's simulation (Ray), in processes of its own.

    Raises:
        UserError: no SuperLink, or the run failed.
    """
    cpus, gpus = worker_resources(experiment)
    with tempfile.TemporaryDirectory(prefix="fednc-") as folder:
        config = write_config(experiment, Path(folder) / "experiment.yaml")
        flower_run(number_of_sites(experiment), {"config": str(config), **everyday_values(experiment)}, cpus, gpus)


def write_config(experiment: Experiment, path: Path) -> Path:
    """Write the whole resolved experiment as YAML, with absolute folders, and return the path.

    Flower's own run-config could not carry it: it knows no null, and no quotes in a folder's name.
    """
    there = experiment.replace(output_dir=experiment.run.output_dir.resolve(), data_dir=experiment.data.root.resolve())
    path.write_text(yaml.safe_dump(there.in_sections(), allow_unicode=True), encoding="utf-8")
    return path


def run_local(experiment: Experiment) -> Path:
    """Run an experiment with the in-process engine and return the run's folder.

    Raises:
        UserError: the run failed.
    """
    quiet_logging()
    grid = LocalGrid(load_client_app(), number_of_sites(experiment), ahead=works_ahead(experiment))
    return run(grid, experiment)


def works_ahead(experiment: Experiment) -> bool:
    """Say whether the next site trains while the coordinator takes a reply.

    On a GPU, and of a large model where a processor is free; of a small one two threads mostly wait for each other's
    turn at Python.
    """
    if pick_device(experiment.run.device).type == "cuda":
        return True
    return architecture(experiment.model.backbone).large and 0 < experiment.run.threads < (os.cpu_count() or 1)


def number_of_sites(experiment: Experiment) -> int:
    """Return how many nodes the experiment needs: natural partitions bring their own number."""
    if experiment.sites.partition == "natural":
        return len(build_federation(experiment).site_names)
    return experiment.sites.sites


def load_client_app() -> ClientApp:
    """Return the ClientApp that pyproject.toml names, imported as Flower would.

    Raises:
        UserError: another package of its name hides it.
    """
    module, attribute = CLIENT_APP.split(":")
    if (spec := find_spec(module.split(".")[0])) and spec.origin:
        check_installed(spec.origin)
    app: ClientApp = getattr(import_module(module), attribute)
    return app


_ENGINES: dict[str, Callable[[Experiment], object]] = {"flower": run_flower, "local": run_local}
