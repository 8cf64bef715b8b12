"""What the fault tests share; the real processes of the integration tests serve here too."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.config import Experiment, build
from server_app.run.journal import Journal


@pytest.fixture
def log_text(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """Return a function that gives what was logged so far."""
    logging.getLogger("fednc").addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, logger="fednc"):
        yield lambda: caplog.text
    logging.getLogger("fednc").removeHandler(caplog.handler)


@pytest.fixture
def flaky_sites(tmp_path: Path) -> Callable[..., tuple[list[Path], Experiment]]:
    """Return a function that writes sites of these names with images of digits, and their experiment."""
    from real_processes import CLASSES, write_folders, write_site_config

    def make(*names: str, **changes: Any) -> tuple[list[Path], Experiment]:
        folders, coordinator = write_folders(tmp_path / "data", len(names))
        sites = [
            write_site_config(tmp_path / f"local-{i}", name, data)
            for i, (name, data) in enumerate(zip(names, folders, strict=True))
        ]
        values = {
            "partition": "deployed", "classes": list(CLASSES), "dataset": "image-folder", "data-dir": coordinator,
            "sites": len(names), "width": 4, "image-size": 8, "rounds": 3, "local-epochs": 1, "batch-size": 16,
            "evaluate-every": 1, "device": "cpu", "round-timeout": 5, "output-dir": tmp_path / "runs",
            "run-name": "run",
        }  # fmt: skip
        return sites, build(values | {key.replace("_", "-"): value for key, value in changes.items()})

    return make


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Journal]:
    """Return a function that gives one journal an experiment: making its folder is the slow part."""
    made: dict[str, Journal] = {}

    def journal(experiment: Experiment) -> Journal:
        key = experiment.model_dump_json()
        if key not in made:
            made[key] = Journal(tmp_path_factory.mktemp("runs") / "run", experiment)
        return made[key]

    return journal
