"""An .npz archive whose arrays are checked as they are read. Nothing in it is unpickled."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.images.source import Labels
from common.errors import UserError, nearest

Integers = npt.NDArray[np.int64]

_LARGEST = int(np.iinfo(np.int64).max)


class Archive:
    """An open .npz whose arrays are checked as they are read, each only once.

    Raises:
        UserError: in every method, naming file, array and row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            opened = np.load(path, allow_pickle=False)
        except Exception as error:  # a damaged archive raises nearly anything
            # NumPy's own words for a foreign file advise to unpickle it; only the system's words are passed on.
            why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
            raise UserError(f"{path}: not a readable .npz archive{why}; save the arrays with np.savez") from None
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise UserError(f"{path}: not an .npz archive; save the arrays with np.savez")
        self._opened = opened
        self._read: dict[str, npt.NDArray[Any]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._opened.files

    def array(self, key: str) -> npt.NDArray[Any]:
        """Return an array as it is stored."""
        if key not in self:
            near = f"did you mean {near!r}? " if (near := nearest(key, self._opened.files)) else ""
            found = ", ".join(map(repr, self._opened.files))
            raise UserError(f"{self.path}: no array '{key}'; {near}there are: {found}")
        if key not in self._read:
            try:
                self._read[key] = self._opened[key]
            except Exception:  # an object array too, which only pickle could read
                raise self.error(
                    key, "is damaged or holds Python objects; store plain integers, bytes or strings"
                ) from None
        return self._read[key]

    def integers(self, key: str, length: int | None = None) -> Integers:
        """Return an array of one integer an image, or of one column of them."""
        array = self.array(key)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise self.error(key, f"is {array.dtype} of shape {array.shape}, expected one integer an image")
        if length is not None and len(array) != length:
            raise self.error(key, f"has {len(array)} entries for {length} images")
        if len(wrong := np.flatnonzero(array > _LARGEST)):
            raise self.error(f"{key}[{wrong[0]}]", f"is {array[wrong[0]]}, above {_LARGEST}, the largest possible")
        return array.astype(np.int64)

    def labels(self, key: str) -> Labels:
        """Return class indices [N], or bool [N, C] where there is a column of 0 and 1 for each of C ≥ 2 labels."""
        array = self.array(key)
        if array.ndim != 2 or array.shape[1] < 2:
            return self.integers(key)
        if array.dtype != np.bool_ and not np.issubdtype(array.dtype, np.integer):
            raise self.error(key, f"is {array.dtype} of shape {array.shape}, expected 0 or 1 for each image and label")
        if len(wrong := np.argwhere((array != 0) & (array != 1))):
            row, column = wrong[0].tolist()
            raise self.error(f"{key}[{row}, {column}]", f"is {array[row, column]}, expected 0 or 1")
        return array.astype(np.bool_)

    def names(self, key: str) -> tuple[str, ...]:
        """Return an array of names, each its own."""
        array = self.array(key)
        if array.ndim != 1 or array.dtype.kind != "U" or not len(array):
            raise self.error(key, f"is {array.dtype} of shape {array.shape}, expected strings, one a name")
        rows: dict[str, int] = {}
        for row, name in enumerate(array.tolist()):
            if not name.strip():
                raise self.error(f"{key}[{row}]", "is empty; give every entry a name")
            if name in rows:
                raise self.error(f"{key}[{row}]", f"is {name!r}, as {key}[{rows[name]}] is; give each its own name")
            rows[name] = row
        return tuple(rows)

    def check_range(self, key: str, values: Integers, size: int, what: str) -> None:
        """Raise `UserError` for the first value outside 0…size − 1."""
        if len(wrong := np.flatnonzero((values < 0) | (values >= size))):
            row = wrong[0]
            raise self.error(f"{key}[{row}]", f"is {values[row]}, outside 0…{size - 1} ({size} {what})")

    def error(self, key: str, message: str) -> UserError:
        """Build the error about an array."""
        return UserError(f"{self.path}: {key} {message}")
