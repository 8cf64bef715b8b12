"""Running an experiment in this process: the same ServerApp and ClientApp code, on a `LocalGrid`."""

from importlib import import_module
from pathlib import Path

from flwr.clientapp import ClientApp

from common.config import Experiment
from common.data import build_federation
from server_app.app import run
from server_app.journal import quiet_logging
from server_app.local_grid import LocalGrid

CLIENT_APP = "client_app.app:app"  # as in pyproject.toml; loaded by name, so the rooms stay apart


def run_local(experiment: Experiment) -> Path:
    """Run an experiment with the in-process engine and return the run's folder."""
    quiet_logging()
    return run(LocalGrid(load_client_app(), number_of_sites(experiment)), experiment)


def number_of_sites(experiment: Experiment) -> int:
    """Return how many nodes the experiment needs: natural partitions bring their own number."""
    if experiment.partition == "natural":
        return len(build_federation(experiment).site_names)
    return experiment.sites


def load_client_app() -> ClientApp:
    """Return the ClientApp that pyproject.toml names, imported as Flower would."""
    module, attribute = CLIENT_APP.split(":")
    app: ClientApp = getattr(import_module(module), attribute)
    return app
