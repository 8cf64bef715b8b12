"""Arrays on disk as safetensors, written atomically. Nothing is ever unpickled."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]], about: Mapping[str, str]) -> None:
    """Write arrays so that a crash leaves the old file or the new one, never half of it.

    Args:
        path: the `.safetensors` file.
        arrays: what to keep.
        about: short facts kept in the file's header.
    """
    part = path.with_suffix(".part")
    # not ascontiguousarray: it would turn a 0-d counter into shape (1,)
    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, part, dict(about))
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)  # the rename itself must survive a power cut too
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
