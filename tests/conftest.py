"""Small real experiments shared by the tests: scikit-learn's digits, a few sites, a few rounds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from common.config import Experiment, build
from common.methods import METHODS

torch.set_num_threads(1)  # tests run side by side
# The same examples everywhere, and no clock: a busy machine is no failure.
settings.register_profile("fednc", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fednc")


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
        return build(values | {key.replace("_", "-"): value for key, value in changes.items()})

    return make


@pytest.fixture
def tiny_for(tiny: Callable[..., Experiment]) -> Callable[..., Experiment]:
    """Return a builder like `tiny` for a method: composites of two digits where images have several labels."""

    def make(method: str, several: bool = False, **changes: Any) -> Experiment:
        if several or METHODS[method].labels == "many":
            defaults = {"composites": 90, "composites_test": 60, "head_bias": True, "imbalance_factor": 1}
            changes = defaults | changes
        return tiny(method=method, **changes)

    return make
