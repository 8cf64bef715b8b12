"""Small real experiments shared by the tests: scikit-learn's digits, a few sites, a few rounds."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import flwr.common.logger  # noqa: F401 - gives Flower's logger its handler
import pytest
import torch
from deep import mark
from hypothesis import HealthCheck, settings
from trained_runs import TrainedRuns, session_folder

from common.config import Experiment, build
from common.methods import METHODS
from server_app.report.charts import Chart

torch.set_num_threads(1)  # tests run side by side
os.environ["OMP_NUM_THREADS"] = "1"  # and so do the processes that they start
_CACHE = tempfile.TemporaryDirectory(prefix="fednc-tests-")  # removed at the end
os.environ["FEDNC_CACHE"] = _CACHE.name  # decoded images are not kept in the home folder
# hundreds of processes read the same files: they are compiled once, whatever this shell says
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# The same examples everywhere, and no clock: a busy machine is no failure. `make test-deep` names the profile `deep`.
settings.register_profile("deep", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("deep"), max_examples=25)
settings.load_profile("quick")
# Tests of these files start processes and wait for them most of the time; the longest first.
WAITING = (
    *("test_compose", "test_real_site_killed", "test_real_coordinator_killed", "test_pretrained_engines"),
    *("test_deployment", "test_ray_simulation", "test_stopped_runs", "test_provisioning"),
)
EARLY = 0.7  # the part of a worker's share in which they begin
DRAWN = ("report", "compare", "browser", "commands")  # folders of tests that look at charts
# loggers that a run makes speak, as they are before any run
LOGS = [
    (log, list(log.handlers), log.level, log.propagate)
    for log in map(logging.getLogger, ("fednc", "fednc.site", "flwr"))
]


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores, since one of them waits most of the time."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what is deep."""
    mark(item)


@pytest.hookimpl(trylast=True)  # what is not run is no longer there
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the tests that wait for processes over the workers, each of which begins with a share of the list.

    None of them is late in its share: all workers would end up waiting for it.
    """
    slow = sorted((i for i in items if i.path.stem in WAITING), key=lambda item: WAITING.index(item.path.stem))
    rest = [item for item in items if item.path.stem not in WAITING]
    workers = pytest_xdist_auto_num_workers()
    due = [
        (len(rest) * (worker + EARLY * i / len(share)) / workers, item)
        for worker, share in enumerate(slow[first::workers] for first in range(workers))
        for i, item in enumerate(share)
    ]
    items.clear()
    for place, item in enumerate(rest):
        begins = place == 0 or rest[place - 1].path != item.path  # amid a file its fixtures would be made twice
        while begins and due and due[0][0] <= place:
            items.append(due.pop(0)[1])
        items.append(item)
    items += [item for _, item in due]


@pytest.fixture(autouse=True)
def _charts_are_drawn_where_they_are_looked_at(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave charts empty in the pages of other tests' runs: there are hundreds, and drawing takes a second."""
    if request.path.parent.name in DRAWN and "undrawn" not in request.keywords:
        yield
        return
    empty = '<svg xmlns="http://www.w3.org/2000/svg" role="img"/>'
    # no `monkeypatch`, which would make a run one of this test alone
    with patch.object(Chart, "svg", lambda chart: empty), patch.object(Chart, "file", lambda chart, kind: b""):
        yield


@pytest.fixture(autouse=True)
def _no_logger_speaks() -> Iterator[None]:
    """Begin and end each test with silent loggers: a worker runs tests in any order.

    A module's fixtures run before this one, so that what they left is undone too and not taken for what was.
    """
    _as_at_the_start()
    yield
    _as_at_the_start()


def _as_at_the_start() -> None:
    for log, handlers, level, propagate in LOGS:
        log.handlers[:], log.propagate = handlers, propagate
        log.setLevel(level)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Experiment]:
    """Return a builder of two-round experiments on digits that write below tmp_path."""

    def make(**changes: Any) -> Experiment:
        values: dict[str, Any] = {
            "name": "tiny",
            "dataset": "digits",
            "head-class-size": 30,
            "imbalance-factor": 5,
            "sites": 3,
            "backbone": "cnn",
            "width": 4,
            "rounds": 2,
            "local-epochs": 1,
            "batch-size": 16,
            "evaluate-every": 1,
            "device": "cpu",
            "output-dir": tmp_path / "runs",
            "run-name": "run",
        }
        if changes.get("method") == "creff":  # whose 100 and 300 take longer than all the rest
            values |= {"creff-match-steps": 10, "creff-retrain-epochs": 30}
        return build(values | {key.replace("_", "-"): value for key, value in changes.items()})

    return make


@pytest.fixture
def tiny_for(tiny: Callable[..., Experiment]) -> Callable[..., Experiment]:
    """Return a builder like `tiny` for a method: composites of two digits where images have several labels."""

    def make(method: str, multilabel: bool = False, **changes: Any) -> Experiment:
        if multilabel or METHODS[method].labels == "many":
            defaults = {"composites": 90, "composites_test": 60, "head_bias": True, "imbalance_factor": 1}
            changes = defaults | changes
        return tiny(method=method, **changes)

    return make


@pytest.fixture
def trained(
    tiny_for: Callable[..., Experiment], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[TrainedRuns]:  # fmt: skip
    """Return what gives a finished run of what `tiny_for` builds: for a test that only looks at it."""

    def unpatched() -> None:
        if "monkeypatch" in request.fixturenames:
            patches = request.getfixturevalue("monkeypatch")
            assert not (patches._setattr or patches._setitem), "what is shared is trained before anything is patched"

    def builder(method: str = "fedloge", **changes: Any) -> Experiment:
        return tiny_for(method, **changes)

    runs = TrainedRuns(session_folder(tmp_path_factory) / "trained", builder, tmp_path / "runs", unpatched)
    yield runs
    runs.check()
