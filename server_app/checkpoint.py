"""Models and checkpoints of the coordinator as safetensors, written atomically."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Write arrays with a JSON header fact sheet: the old file or the new one, never half of it."""
    part = path.with_suffix(".part")
    save_file(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        part,
        {"about": json.dumps(dict(about))},
    )
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def save_checkpoint(folder: Path, server_round: int, arrays: Mapping[str, npt.NDArray[Any]], keep: int = 3) -> None:
    """Write `checkpoints/round-00050.safetensors` and remove all but the last `keep`."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    save_arrays(checkpoints / f"round-{server_round:05}.safetensors", arrays, {"round": server_round})
    for old in sorted(checkpoints.glob("round-*.safetensors"))[:-keep]:
        old.unlink()
