"""The wire precision: with `wire: half` weights are sent in float16, and computed with in float32."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from common.config import Experiment
from common.errors import UserError

Arrays = dict[str, npt.NDArray[Any]]

_EXACT = ("class_weights",)  # parts of the model that may count images: half precision has no 2,049
_LARGEST = float(np.finfo(np.float16).max)


def to_wire_precision(arrays: Mapping[str, npt.NDArray[Any]], experiment: Experiment) -> Arrays:
    """Return arrays as they cross: with `wire: half`, float32 as float16.

    Raises:
        UserError: a finite number beyond half precision's range; what is not finite the coordinator refuses anyway.
    """
    if experiment.rounds.wire == "single":
        return dict(arrays)
    small = {}
    for name, array in arrays.items():
        if _crosses_small(name, array.dtype, np.float32):
            if (np.isfinite(array) & (np.abs(array) > _LARGEST)).any():
                raise UserError(f"{name}: a value beyond {_LARGEST:g} cannot cross with wire = 'half': use single")
            array = array.astype(np.float16)
        small[name] = array
    return small


def from_wire_precision(arrays: Mapping[str, npt.NDArray[Any]], experiment: Experiment) -> Arrays:
    """Return arrays as they are computed with: what `to_wire_precision` made small, in single precision again.

    Raises:
        ValueError: with `wire: half`, an array in single precision.
    """
    if experiment.rounds.wire == "single":
        return dict(arrays)
    if wide := [name for name, array in arrays.items() if _crosses_small(name, array.dtype, np.float32)]:
        raise ValueError(f"{wide[0]} is float32 where wire = 'half' needs float16")
    small = {name for name, array in arrays.items() if _crosses_small(name, array.dtype, np.float16)}
    return {name: array.astype(np.float32) if name in small else array for name, array in arrays.items()}


def _crosses_small(name: str, dtype: np.dtype[Any], wanted: type[np.floating[Any]]) -> bool:
    return dtype == wanted and name.split(".", 1)[0] not in _EXACT
