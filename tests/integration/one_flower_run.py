"""An app whose ServerApp runs every experiment of a folder, one after the other, in one run of Flower."""

from collections.abc import Iterable
from pathlib import Path

from cell_programs import UNDRAWN

from common.config import Experiment
from server_app.engines.engines import write_config
from server_app.engines.flower_app import write_app

_SERVER_APP = (
    UNDRAWN
    + """
from pathlib import Path

from flwr.serverapp import ServerApp

from common.config import load
from server_app.app import run
from server_app.grids.streaming import StreamingGrid
from server_app.run.journal import quiet_logging

app = ServerApp()


@app.main()
def main(grid, context):
    quiet_logging()
    for path in sorted(Path(context.run_config["config"]).glob("*.yaml")):
        run(StreamingGrid(grid), load(path))
"""
)


def app_of_all(folder: Path) -> Path:
    """Write our app with that ServerApp to a new folder, and return it; its key `config` is a folder of YAML files."""
    app = write_app(folder)
    (app / "server_app" / "every.py").write_text(_SERVER_APP)
    project = app / "pyproject.toml"
    text = project.read_text()
    assert '"server_app.app:app"' in text
    project.write_text(text.replace('"server_app.app:app"', '"server_app.every:app"'))
    return app


def write_configs(experiments: Iterable[Experiment], folder: Path) -> Path:
    """Write experiments by the names of their runs, and return the folder."""
    folder.mkdir()
    for experiment in experiments:
        write_config(experiment, folder / f"{experiment.run.run_name}.yaml")
    return folder
