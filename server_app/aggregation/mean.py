"""A streaming, guarded, sample-weighted mean of the sites' replies (FedLoGe, Algorithm 1, server step).

w ← Σ_k n_k w_k / Σ_k n_k, added up in float64 one reply at a time: memory does not grow with the sites.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from server_app.aggregation.values import BadReplyError, DivergedError, check_values

Arrays = dict[str, npt.NDArray[Any]]

_NEVER_NEGATIVE = (".running_var", ".num_batches_tracked")  # BatchNorm's: the root of a variance is taken
_BLOCK = 1 << 15  # elements per block: intermediate results stay in the CPU cache
_SHORT = 1 << 13  # elements that BLAS sums in one thread: the result must not depend on the number of threads


class RunningMean:
    """Sample-weighted mean over replies with the reference's names, shapes and dtypes.

    Args:
        reference: the arrays that were sent out; every reply must have their names, shapes and dtypes.
        clip_norm: a reply that moved further than this from the reference, in the 2-norm over all floats, is drawn
            back to it; None: none is.
        max_step: a reply that moved further than this times (the reference's own 2-norm + 1) is refused; None: none is.
    """

    def __init__(
        self,
        reference: Mapping[str, npt.NDArray[Any]],
        clip_norm: float | None = None,
        max_step: float | None = None,
    ) -> None:
        self._reference, self._clip_norm = dict(reference), clip_norm
        self._sums = {name: np.zeros(a.shape, dtype=np.float64) for name, a in reference.items()}
        self._scratch = np.empty(_BLOCK)
        self._max_distance = None if max_step is None else max_step * (self._norm({}) + 1)
        self.weight = 0

    def add(self, arrays: Mapping[str, npt.NDArray[Any]], weight: int) -> float:
        """Check one reply, add it, and return its step: how far it moved from the reference, see `check_step`.

        Args:
            arrays: the site's arrays.
            weight: its number of training images n_k.

        Raises:
            BadReplyError: wrong names, shapes, dtypes, a value that is not finite or huge, a variance or a counter
                below 0, a weight below 1, or a step that is too far.
        """
        self.check_form(arrays)
        self.check_values(arrays)
        step = self.check_step(arrays)
        self.add_checked(arrays, weight, step)
        return step

    def check_form(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Raise `BadReplyError` where names, shapes or dtypes are not those of the reference."""
        if arrays.keys() != self._reference.keys():
            odd = sorted(arrays.keys() ^ self._reference.keys())
            raise BadReplyError(f"array names differ from what was sent: {', '.join(odd[:3])}")
        for name, array in arrays.items():
            template = self._reference[name]
            if array.shape != template.shape or array.dtype != template.dtype:
                raise BadReplyError(
                    f"{name}: {array.dtype}{array.shape} where {template.dtype}{template.shape} is needed"
                )

    @staticmethod
    def check_values(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Raise `BadReplyError` for a value that is not finite or huge, or a variance or counter below 0."""
        for name, array in arrays.items():
            check_values(name, array)
            if name.endswith(_NEVER_NEGATIVE) and array.size and array.min() < 0:
                raise BadReplyError(f"{name}: a value is below 0, which none can be")

    def check_step(self, arrays: Mapping[str, npt.NDArray[Any]]) -> float:
        """Return how far arrays of the right form moved from the reference, in the 2-norm over all floats.

        Raises:
            DivergedError: further than `max_step` allows.
        """
        step = self._norm(arrays)
        if self._max_distance is not None and step > self._max_distance:
            raise DivergedError(
                f"it moved {step:.3g} from what was sent, where max-step allows {self._max_distance:.3g}; "
                "training diverged there, or worse"
            )
        return step

    def add_checked(self, arrays: Mapping[str, npt.NDArray[Any]], weight: int, step: float) -> None:
        """Add one reply that has passed the checks, whose step is `step`.

        Raises:
            BadReplyError: a weight below 1.
        """
        if weight < 1:
            raise BadReplyError(f"weight {weight}: at least one training image is needed")
        self._accumulate(self._clipped(arrays, step), weight)

    def _norm(self, arrays: Mapping[str, npt.NDArray[Any]]) -> float:
        """Return the 2-norm over all floats of arrays minus the reference; of the reference itself without arrays."""
        total = 0.0
        for name, template in sorted(self._reference.items()):  # a resumed run has them in another order
            if template.dtype.kind == "f":
                total += _squares(template.reshape(-1), arrays[name].reshape(-1) if arrays else None)
        return math.sqrt(total)

    def _accumulate(self, arrays: Mapping[str, npt.NDArray[Any]], weight: int) -> None:
        for name, array in arrays.items():
            _add(self._sums[name].reshape(-1), array.reshape(-1), weight, self._scratch)
        self.weight += weight

    def mean(self) -> Arrays:
        """Return the mean in the reference's dtypes; integer buffers are rounded and stay integers.

        With no reply at all it is the reference itself.
        """
        if not self.weight:
            return dict(self._reference)
        return {name: self._share(total, self._reference[name]) for name, total in self._sums.items()}

    def _share(self, total: npt.NDArray[np.float64], template: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if template.dtype.kind != "f":
            return self._cast(total / self.weight, template)
        return np.divide(total, self.weight, out=np.empty(template.shape, template.dtype), casting="same_kind")

    def _clipped(self, arrays: Mapping[str, npt.NDArray[Any]], step: float) -> Mapping[str, npt.NDArray[Any]]:
        if self._clip_norm is None or step <= self._clip_norm:
            return arrays
        moved = {n: a.astype(np.float64) - self._reference[n] for n, a in arrays.items() if a.dtype.kind == "f"}
        share = self._clip_norm / step
        return {**arrays, **{n: self._cast(self._reference[n] + share * step, arrays[n]) for n, step in moved.items()}}

    @staticmethod
    def _cast(mean: npt.NDArray[np.float64], template: npt.NDArray[Any]) -> npt.NDArray[Any]:
        # np.asarray: NumPy turns a 0-d array into a scalar when it computes with it
        return np.asarray(np.rint(mean) if template.dtype.kind in "iu" else mean, dtype=template.dtype)


def _add(
    total: npt.NDArray[np.float64], array: npt.NDArray[Any], weight: int, scratch: npt.NDArray[np.float64]
) -> None:
    """Add weight · array to the total, both [n], as float64 in blocks."""
    for start in range(0, len(total), len(scratch)):
        block = array[start : start + len(scratch)]
        scaled = np.multiply(block, weight, out=scratch[: len(block)], dtype=np.float64)
        total[start : start + len(scratch)] += scaled


def _squares(template: npt.NDArray[Any], array: npt.NDArray[Any] | None) -> float:
    """Return the sum of squares of array minus like, both [n], or of like alone.

    A short block is added up in the arrays' own precision, at least float32; the blocks are in float64.
    """
    total, kind = 0.0, np.promote_types(template.dtype, np.float32)
    for start in range(0, len(template), _SHORT):
        part = slice(start, start + _SHORT)
        moved = (
            template[part].astype(kind, copy=False)
            if array is None
            else np.subtract(array[part], template[part], dtype=kind)
        )
        total += float(np.dot(moved, moved))
    return total


def not_finite(arrays: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Return the names of arrays with a value that is not finite."""
    return [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
