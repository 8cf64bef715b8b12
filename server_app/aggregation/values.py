"""What no number of a reply may be, and the errors that refuse a reply."""

from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import WireError

LARGEST = 1e9  # no loss, weight, moment or counter of a training that works comes near; sums and squares stay in range


class BadReplyError(WireError):
    """A reply that must not be used; the text says why."""


class DivergedError(BadReplyError):
    """One whose numbers are not finite or out of all proportion: training diverged there, or someone lies."""


def check_values(name: str, array: npt.NDArray[Any]) -> None:
    """Raise `DivergedError` where a number is not finite or beyond `LARGEST`."""
    # as Python's numbers: in half precision LARGEST itself would be infinite; not-a-number is never within
    if not array.size or (float(array.min()) >= -LARGEST and float(array.max()) <= LARGEST):
        return
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DivergedError(f"{name}: a value is not finite")
    raise DivergedError(f"{name}: a value is beyond {LARGEST:g}; training diverged there, or worse")
