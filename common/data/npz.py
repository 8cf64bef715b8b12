"""A NumPy archive of images, optionally with the site and the patient (or lesion) of each.

Two layouts, told apart by their label arrays:

    two parts   y_train, y_test            and the same suffixes on every other array
    one part    y, is_test (bool)          every other array without suffix

    x           [N, H, W] or [N, H, W, C] uint8, C = 1 or 3
    jpeg        or image files end to end, uint8, with their starts in `offset`, [N + 1] integers
    y           [N] integers from 0; without class_names, below the number of images
    class_names optional, [C]
    <site-key>  optional, [N] integers; <site-key>_names optional, their names
    <group-key> optional, [N] integers; no group may be on both sides of the split
"""

import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.config import Experiment
from common.data.dataset import Dataset, padded_names, training_moments
from common.data.images import ArrayImages, array_images, byte_images
from common.errors import UserError, nearest

Integers = npt.NDArray[np.int64]

_LARGEST = int(np.iinfo(np.int64).max)

# ValueError: an object array, which only pickle could read. RuntimeError: encrypted or packed in an unknown way.
_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


def load(experiment: Experiment) -> Dataset:
    """Read the archive that `data-dir` names, or the only one in that folder. Nothing in it is unpickled.

    Raises:
        UserError: naming file, array and row of what is missing, malformed, out of range or leaking.
    """
    archive = _Archive(_find(experiment.data_root))
    train_part, test_part = _parts(archive)
    classes = _classes(archive, train_part, test_part)
    train = _images(archive, train_part, experiment.image_size)
    test = _images(archive, test_part, experiment.image_size)
    if (train.channels, train.size) != (test.channels, test.size):
        raise UserError(
            f"{archive.path}: training images are {train.channels}×{train.size[0]}×{train.size[1]}, "
            f"test images {test.channels}×{test.size[0]}×{test.size[1]}; set image-size, or store them alike"
        )
    train_sites, test_sites, site_names = _sites(archive, experiment.site_key, train_part, test_part)
    train_groups, test_groups = _groups(archive, experiment.group_key, train_part, test_part)
    mean, std = training_moments(train)
    return Dataset(
        *("npz", classes, train, test, mean, std),
        *(train_sites, test_sites, site_names, train_groups, test_groups),
    )


class _Archive:
    """An open .npz whose arrays are checked as they are read, each only once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            opened = np.load(path, allow_pickle=False)
        except _UNREADABLE as error:
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
        if key not in self:
            near = f"did you mean {near!r}? " if (near := nearest(key, self._opened.files)) else ""
            found = ", ".join(map(repr, self._opened.files))
            raise UserError(f"{self.path}: no array '{key}'; {near}there are: {found}")
        if key not in self._read:
            try:
                self._read[key] = self._opened[key]
            except _UNREADABLE:
                raise self.error(
                    key, "is damaged or holds Python objects; store plain integers, bytes or strings"
                ) from None
        return self._read[key]

    def integers(self, key: str, length: int | None = None) -> Integers:
        array = self.array(key)
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise self.error(key, f"is {array.dtype} of shape {array.shape}, expected one integer an image")
        if length is not None and len(array) != length:
            raise self.error(key, f"has {len(array)} entries for {length} images")
        if len(wrong := np.flatnonzero(array > _LARGEST)):
            raise self.error(f"{key}[{wrong[0]}]", f"is {array[wrong[0]]}, above {_LARGEST}, the largest possible")
        return array.astype(np.int64)

    def names(self, key: str) -> tuple[str, ...]:
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
        if len(wrong := np.flatnonzero((values < 0) | (values >= size))):
            row = wrong[0]
            raise self.error(f"{key}[{row}]", f"is {values[row]}, outside 0…{size - 1} ({size} {what})")

    def error(self, key: str, message: str) -> UserError:
        return UserError(f"{self.path}: {key} {message}")


@dataclass(frozen=True)
class _Part:
    """One side of the split: arrays `<key><suffix>`, of which `rows` belong to this side."""

    suffix: str
    rows: Integers
    length: int

    def column(self, archive: _Archive, key: str) -> Integers:
        return archive.integers(key + self.suffix, self.length)[self.rows]


def _find(root: Path) -> Path:
    if not root.is_dir():
        if root.is_file():
            return root
        raise UserError(f"{root}: no such file or folder; set data-dir to an .npz archive")
    found = sorted(root.glob("*.npz"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UserError(f"{root}: holds {len(found)} .npz archives ({names}); set data-dir to one of them")
    return found[0]


def _parts(archive: _Archive) -> tuple[_Part, _Part]:
    if "y" in archive and "y_train" not in archive:
        length = len(archive.integers("y"))
        is_test = archive.array("is_test")
        if is_test.dtype != np.bool_ or is_test.shape != (length,):
            raise archive.error("is_test", f"is {is_test.dtype} of shape {is_test.shape}, expected ({length},) bool")
        parts = tuple(_Part("", np.flatnonzero(mask), length) for mask in (~is_test, is_test))
    else:
        lengths = {suffix: len(archive.integers(f"y{suffix}")) for suffix in ("_train", "_test")}
        parts = tuple(_Part(suffix, np.arange(length), length) for suffix, length in lengths.items())
    for part, name in zip(parts, ("training", "test"), strict=True):
        if not len(part.rows):
            raise UserError(f"{archive.path}: no {name} images")
    return parts[0], parts[1]


def _classes(archive: _Archive, *parts: _Part) -> tuple[str, ...]:
    labels = {f"y{part.suffix}": archive.integers(f"y{part.suffix}") for part in parts}
    names = archive.names("class_names") if "class_names" in archive else None
    # Unnamed classes are numbered up to the largest label, so a stray one must not make millions of them.
    bound = sum(map(len, labels.values())) if names is None else len(names)
    for key, values in labels.items():
        archive.check_range(key, values, bound, "images, no class_names" if names is None else "classes")
    return names or tuple(str(c) for c in range(max(int(values.max()) for values in labels.values()) + 1))


def _images(archive: _Archive, part: _Part, image_size: int | None) -> ArrayImages:
    labels = part.column(archive, "y")
    key = f"x{part.suffix}"
    if key not in archive and f"jpeg{part.suffix}" in archive:
        return _decoded(archive, part, labels, image_size)
    x = archive.array(key)
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)):
        raise archive.error(key, f"is {x.dtype} of shape {x.shape}, expected uint8 [N, H, W] or [N, H, W, 1 or 3]")
    if len(x) != part.length or not x.size:
        raise archive.error(key, f"has shape {x.shape} for {part.length} labels in y{part.suffix}")
    return array_images(x[part.rows], labels, image_size)


def _decoded(archive: _Archive, part: _Part, labels: Integers, image_size: int | None) -> ArrayImages:
    key = f"jpeg{part.suffix}"
    data = archive.array(key)
    if data.dtype != np.uint8 or data.ndim != 1:
        raise archive.error(key, f"is {data.dtype} of shape {data.shape}, expected the files' bytes as one uint8 row")
    offset_key = f"offset{part.suffix}"
    offsets = archive.integers(offset_key)
    if len(offsets) != part.length + 1:
        raise archive.error(offset_key, f"has {len(offsets)} entries, expected {part.length + 1} (images + 1)")
    if offsets[0] != 0 or offsets[-1] != len(data):
        raise archive.error(offset_key, f"goes from {offsets[0]} to {offsets[-1]}, but {key} has {len(data)} bytes")
    if len(wrong := np.flatnonzero(np.diff(offsets) <= 0)):
        raise archive.error(f"{offset_key}[{wrong[0] + 1}]", "is not above the entry before it")
    return byte_images(data, offsets, part.rows, labels, image_size, f"{archive.path}: {key}")


def _sites(
    archive: _Archive, key: str | None, train: _Part, test: _Part
) -> tuple[Integers | None, Integers | None, tuple[str, ...]]:
    if key is None:
        return None, None, ()
    train_sites = train.column(archive, key)
    # A common test set need not belong to sites.
    test_sites = test.column(archive, key) if key + test.suffix in archive else None
    if f"{key}_names" not in archive:
        values = np.unique(train_sites if test_sites is None else np.concatenate([train_sites, test_sites]))
        found = None if test_sites is None else np.searchsorted(values, test_sites)
        return np.searchsorted(values, train_sites), found, padded_names(key, values)
    names = archive.names(f"{key}_names")
    for part in (train, test) if test_sites is not None else (train,):
        stored = f"{key}{part.suffix}"
        archive.check_range(stored, archive.integers(stored), len(names), "sites")
    return train_sites, test_sites, names


def _groups(archive: _Archive, key: str | None, train: _Part, test: _Part) -> tuple[Integers | None, Integers | None]:
    if key is None:
        return None, None
    train_groups, test_groups = train.column(archive, key), test.column(archive, key)
    if len(both := np.intersect1d(train_groups, test_groups)):
        raise archive.error(
            key,
            f"{both[0]} has images in training and in test, {len(both)} such in all: a leak; split by {key}",
        )
    return train_groups, test_groups
