"""What a Flower run is told."""

from collections.abc import Callable
from pathlib import Path

from common.config import Experiment, load
from server_app.engines import engines
from server_app.engines.choices import ENGINES
from server_app.engines.engines import write_config


def test_the_command_line_offers_the_engines_that_there_are() -> None:
    assert set(ENGINES) == set(engines._ENGINES)


def test_a_flower_run_reads_the_same_experiment(tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    """Also what Flower's own run-config cannot carry: null, quotes, and words that YAML takes for others."""
    folder = tmp_path / 'it\'s "here"'
    for changes in (
        {"width": None, "run_name": None},
        {"name": "on", "run_name": "1e5", "mma_learning_rate": 1e-05, "seed": 10**12},
        {"dataset": "npz", "site_key": "no", "partition": "natural", "data_dir": folder},
    ):
        experiment = tiny(output_dir=folder, **changes)
        known = experiment.replace(data_dir=experiment.data.root)
        assert load(write_config(experiment, tmp_path / "experiment.yaml")) == known
