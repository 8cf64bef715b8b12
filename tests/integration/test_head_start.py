"""Heads of methods that train start from class means or ridge regression on the features of the first backbone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from trained_runs import TrainedRuns

from client_app.app import assemble
from common.config import Experiment
from common.errors import UserError
from common.methods import HEAD_STARTS, METHODS
from server_app.engines.engines import run_local
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
START: dict[str, Any] = {"head_start": "ridge", "head_bias": True}


def head_of(folder: Path) -> dict[str, Any]:
    return load_file(folder / "head_start.safetensors")


def generic(folder: Path, server_round: int, head: str = "aux_head") -> dict[str, Any]:
    (event,) = [
        e for e in read_events(folder) if e["event"] == "generic" and e["round"] == server_round and e["head"] == head
    ]
    return {name: value for name, value in event.items() if name not in ("round", "stage", "time")}


@pytest.mark.parametrize(("word", "solver"), [("ridge", "fedridge"), ("ncm", "fedncm")])
def test_before_round_1_the_head_is_the_solved_one(trained: TrainedRuns, word: str, solver: str) -> None:
    folder, solved = trained(method="fedavg", **START | {"head_start": word}), trained(method=solver, rounds=1)
    expected, found = load_file(solved / "generic.safetensors"), head_of(folder)
    assert all(found[name].tobytes() == expected[f"aux_head.{name}"].tobytes() for name in ("weight", "bias"))
    start, end = generic(folder, 0), generic(solved, 1)
    assert start["accuracy"] == end["accuracy"] > generic(trained(method="fedavg", head_bias=True), 0)["accuracy"]
    (facts,) = [e for e in read_events(folder) if e["event"] == "head-start"]
    (solved_of,) = [e for e in read_events(solved) if e["event"] == "method"]
    assert facts["sums_sha256"] == solved_of["sums_sha256"] and facts["sites"] == 3
