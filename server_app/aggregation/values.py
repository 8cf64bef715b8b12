"""Limits of the values in a reply, and the errors that reject a reply."""

from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import WireError

MAX_MAGNITUDE = 1e9  # above any loss, weight, moment or counter of sane training; sums and squares stay finite


class BadReplyError(WireError):
    """A reply that must not be used; the text says why."""


class DivergedError(BadReplyError):
    """A reply whose values are not finite or far too large: training diverged at the site, or it is malicious."""


def check_values(name: str, array: npt.NDArray[Any]) -> None:
    """Raise `DivergedError` where a number is not finite or beyond `MAX_MAGNITUDE`."""
    # as Python's numbers: in half precision LARGEST itself would be infinite; not-a-number is never within
    if not array.size or (float(array.min()) >= -MAX_MAGNITUDE and float(array.max()) <= MAX_MAGNITUDE):
        return
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DivergedError(f"{name}: a value is not finite")
    raise DivergedError(f"{name}: a value is beyond {MAX_MAGNITUDE:g}; training diverged there, or worse")
