"""What two runs are compared by: every array they leave, and what they measured."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from server_app.run.journal import read_events


class PowerCutError(Exception):
    """Stands for whatever ends a coordinator."""


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    paths = [folder / "generic.safetensors", *sorted(folder.glob("sites/*/personal*.safetensors"))]
    return {f"{path.relative_to(folder)}:{k}": v for path in paths for k, v in load_file(path).items()}


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """Return the journal without times and bytes: a resumed run sends the frame once more."""
    free = ("time", "seconds", "bytes_down", "bytes_up", "cost")
    events = [event for event in read_events(folder) if event["event"] not in ("begin", "changed", "stopped")]
    return [{k: v for k, v in event.items() if k not in free} for event in events]
