"""A NumPy archive of images, optionally with the site and the patient (or lesion) of each.

Three layouts, told apart by their label arrays:

    two parts   y_train, y_test             and the same suffixes on every other array
    one part    y, is_test (bool)           every other array without suffix
    MedMNIST    train_labels, test_labels   and train_images, test_images, as https://medmnist.com stores them;
                                            its validation part is not used

    x           [N, H, W] or [N, H, W, channels] uint8, 1 or 3 channels
    jpeg        or image files end to end, uint8, with their starts in `offset`, [N + 1] integers
    y           [N] or [N, 1] integers from 0; without class_names, below the number of images
                or [N, C], 0 or 1 (or bool) for each of C ≥ 2 labels, of which an image may have several, or none
    class_names optional, [C]; or label_names
    <site-key>  optional, [N] integers; <site-key>_names optional, their names
    <group-key> optional, [N] integers; no group may be on both sides of the split
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.config import Experiment
from common.data.images.bad_images import BadImagesError, Failure, skip_bad_images, without_rows
from common.data.images.encoded import ByteImages
from common.data.images.pixel_cache import cache_folder, cached
from common.data.images.pretrained import interpolation_of
from common.data.images.source import ArrayImages, ImageSource, Labels, array_images
from common.data.sources.archive import Archive
from common.data.sources.dataset import Dataset, padded_names, training_moments
from common.data.sources.duplicates import copy_notes, equal_arrays
from common.errors import UserError

DATASETS = {"npz": {"load": "load", "has_arrays": True}}

Integers = npt.NDArray[np.int64]
Opened = ByteImages | ArrayImages
Keep = Callable[[str, Labels, Callable[[], Opened]], ImageSource]


def load(
    experiment: Experiment, keep: Keep = lambda side, labels, opened: opened(), look_for_copies: bool = True
) -> Dataset:
    """Read the archive that `data-dir` names, or the only one in that folder. Nothing in it is unpickled.

    Args:
        experiment: which archive, image size, and the keys of sites and groups.
        keep: of each side, train or test, with its labels, returns the images; may spare reading them.
        look_for_copies: whether the notes name images that are there twice, which reads all of them.

    Raises:
        UserError: naming file, array and row of what is missing, malformed, out of range or leaking.
    """
    archive = Archive(_find(experiment.data.root))
    notes = notes_of(archive) if look_for_copies else ()
    return _load(archive, _parts(archive), experiment, keep, notes)


def _load(
    archive: Archive, parts: tuple["_Part", "_Part"], experiment: Experiment, keep: Keep, notes: tuple[str, ...]
) -> Dataset:
    train_part, test_part = parts
    classes = _classes(archive, train_part, test_part)
    images: list[ImageSource] = []
    failures: list[Sequence[Failure]] = []
    for side, part in zip(("train", "test"), parts, strict=True):
        labels = archive.labels(part.y)[part.rows]
        try:
            images.append(keep(side, labels, partial(_images, archive, part, experiment)))
            failures.append(())
        except BadImagesError as error:
            failures.append(error.failures)
    if not any(failures):
        images, failures = _decoded(images, experiment)
    if any(failures):
        total = sum(len(part.rows) for part in parts)
        note = skip_bad_images(failures, total, experiment.data.skip_bad_images, archive.path.parent)
        first, second = (part.without(failed) for part, failed in zip(parts, failures, strict=True))
        return _load(archive, (first, second), experiment, keep, (*notes, note))
    train, test = images
    if (train.channels, train.size) != (test.channels, test.size):
        raise UserError(
            f"{archive.path}: training images are {train.channels}×{train.size[0]}×{train.size[1]}, "
            f"test images {test.channels}×{test.size[0]}×{test.size[1]}; set image-size, or store them alike"
        )
    train_sites, test_sites, site_names = _sites(archive, experiment.data.site_key, train_part, test_part)
    train_groups, test_groups = _groups(archive, experiment.data.group_key, train_part, test_part)
    mean, std = training_moments(train)
    return Dataset(
        *("npz", classes, train, test, mean, std),
        *(train_sites, test_sites, site_names, train_groups, test_groups),
        notes=notes,
    )


@dataclass(frozen=True)
class Stored:
    """One image as an archive stores it.

    Attributes:
        split: train or test.
        place: archive, array and row, such as `x.npz: jpeg_train[3]`.
        labels: its class by name, or those of several.
        content: uint8, a file's bytes [n], or pixels [H, W] or [H, W, channels].
    """

    split: str
    place: str
    labels: tuple[str, ...]
    content: npt.NDArray[np.uint8]


def stored_images(archive: Archive) -> list[Stored]:
    """Return every image of an archive, undecoded.

    Raises:
        UserError: naming array and row of what is missing, malformed or out of range.
    """
    found, parts = [], _parts(archive)
    classes = _classes(archive, *parts)
    for split, part in zip(("train", "test"), parts, strict=True):
        labels = archive.labels(part.y)
        files = part.x not in archive and f"jpeg{part.suffix}" in archive
        key = f"jpeg{part.suffix}" if files else part.x
        if files:
            data, offsets = _files(archive, part)
            content: Sequence[npt.NDArray[np.uint8]] = np.split(data, offsets[1:-1])
        else:
            content = list(_pixels(archive, part))
        for row in part.rows.tolist():
            of = labels[row]
            numbers = np.flatnonzero(of).tolist() if labels.ndim == 2 else [int(of)]
            names = tuple(classes[number] for number in numbers)
            found.append(Stored(split, f"{archive.path}: {key}[{row}]", names, content[row]))
    return found


def notes_of(archive: Archive) -> tuple[str, ...]:
    """Return a line for each way in which images of an archive are there twice; errors as of `stored_images`."""
    stored = stored_images(archive)
    return copy_notes(
        equal_arrays([image.content for image in stored]),
        [image.split for image in stored],
        lambda one, other: stored[one].labels == stored[other].labels,
        lambda row: stored[row].place.removeprefix(f"{archive.path}: "),
    )


@dataclass(frozen=True)
class _Part:
    """One side of the split: arrays `x`, `y` and `<key><suffix>`, of which `rows` belong to this side."""

    x: str
    y: str
    suffix: str
    rows: Integers
    length: int

    def without(self, failures: Sequence[Failure]) -> "_Part":
        """Return the part without images that cannot be read."""
        return replace(self, rows=without_rows(self.rows, failures))

    def column(self, archive: Archive, key: str) -> Integers:
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


def _parts(archive: Archive) -> tuple[_Part, _Part]:
    if "y" in archive and "y_train" not in archive:
        length = len(archive.labels("y"))
        is_test = archive.array("is_test")
        if is_test.dtype != np.bool_ or is_test.shape != (length,):
            raise archive.error("is_test", f"is {is_test.dtype} of shape {is_test.shape}, expected ({length},) bool")
        parts = [_Part("x", "y", "", np.flatnonzero(mask), length) for mask in (~is_test, is_test)]
    else:
        keys = [("x_train", "y_train", "_train"), ("x_test", "y_test", "_test")]
        if "train_labels" in archive and "y_train" not in archive:
            keys = [(f"{side}_images", f"{side}_labels", f"_{side}") for side in ("train", "test")]
        lengths = [len(archive.labels(y)) for _, y, _ in keys]
        parts = [_Part(*names, np.arange(n), n) for names, n in zip(keys, lengths, strict=True)]
    for part, name in zip(parts, ("training", "test"), strict=True):
        if not len(part.rows):
            raise UserError(f"{archive.path}: no {name} images")
    return parts[0], parts[1]


def _classes(archive: Archive, train: _Part, test: _Part) -> tuple[str, ...]:
    first, second = archive.labels(train.y), archive.labels(test.y)
    if first.shape[1:] != second.shape[1:]:
        raise archive.error(train.y, f"has shape {first.shape}, but {test.y} {second.shape}; store both alike")
    key = "label_names" if "label_names" in archive and "class_names" not in archive else "class_names"
    names = archive.names(key) if key in archive else None
    if first.ndim == 2:
        if names and len(names) != first.shape[1]:
            raise archive.error(key, f"has {len(names)} names for the {first.shape[1]} columns of {train.y}")
        return names or tuple(str(c) for c in range(first.shape[1]))
    values = {part.y: archive.integers(part.y) for part in (train, test)}
    # Unnamed classes are numbered up to the largest label, so a stray one must not make millions of them.
    bound = sum(map(len, values.values())) if names is None else len(names)
    for y, numbers in values.items():
        archive.check_range(y, numbers, bound, "images, no class_names" if names is None else "classes")
    return names or tuple(str(c) for c in range(max(int(numbers.max()) for numbers in values.values()) + 1))


def _images(archive: Archive, part: _Part, experiment: Experiment) -> Opened:
    labels = archive.labels(part.y)[part.rows]
    size, interpolation = experiment.data.image_size, interpolation_of(experiment)
    if part.x not in archive and f"jpeg{part.suffix}" in archive:
        data, offsets = _files(archive, part)
        more = size, f"{archive.path}: jpeg{part.suffix}", archive.path, experiment.data.depth, interpolation
        return ByteImages(data, offsets, part.rows, labels, *more)
    return array_images(_pixels(archive, part)[part.rows], labels, size, interpolation)


def _pixels(archive: Archive, part: _Part) -> npt.NDArray[np.uint8]:
    x = archive.array(part.x)
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)):
        raise archive.error(part.x, f"is {x.dtype} of shape {x.shape}, expected uint8 [N, H, W] or [N, H, W, 1 or 3]")
    if len(x) != part.length or not x.size:
        raise archive.error(part.x, f"has shape {x.shape} for {part.length} labels in {part.y}")
    return x


def _decoded(sides: Sequence[ImageSource], experiment: Experiment) -> tuple[list[ImageSource], list[Sequence[Failure]]]:
    """Return the sides, their files decoded, and of each what cannot be.

    They are in memory, or in the cache where both take more than they may.
    """
    size = sum(images.num_bytes for images in sides if isinstance(images, ByteImages))
    decoded: list[ImageSource] = []
    failures: list[Sequence[Failure]] = []
    for images in sides:
        found: Sequence[Failure] = ()
        if isinstance(images, ByteImages):
            in_memory = size <= experiment.data.image_memory << 20
            images, found = images.in_memory() if in_memory else cached(images, cache_folder(experiment))
        decoded.append(images)
        failures.append(found)
    return decoded, failures


def _files(archive: Archive, part: _Part) -> tuple[npt.NDArray[np.uint8], Integers]:
    """Return image files end to end, and their starts and the end of the last."""
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
    return data, offsets


def _sites(
    archive: Archive, key: str | None, train: _Part, test: _Part
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


def _groups(archive: Archive, key: str | None, train: _Part, test: _Part) -> tuple[Integers | None, Integers | None]:
    if key is None:
        return None, None
    train_groups, test_groups = train.column(archive, key), test.column(archive, key)
    if len(both := np.intersect1d(train_groups, test_groups)):
        raise archive.error(
            key,
            f"{both[0]} has images in training and in test, {len(both)} such in all: a leak; split by {key}",
        )
    return train_groups, test_groups
