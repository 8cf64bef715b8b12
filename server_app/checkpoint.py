"""Checkpoints of the coordinator: the last few global models, written atomically."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from common.files import save_arrays


def save_checkpoint(folder: Path, server_round: int, arrays: Mapping[str, npt.NDArray[Any]], keep: int = 3) -> None:
    """Write `checkpoints/round-00050.safetensors` and remove all but the last `keep`."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    save_arrays(checkpoints / f"round-{server_round:05}.safetensors", arrays, {"round": str(server_round)})
    for old in sorted(checkpoints.glob("round-*.safetensors"))[:-keep]:
        old.unlink()
