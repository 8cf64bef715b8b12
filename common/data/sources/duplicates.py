"""Images that are there more than once, under whatever names: a leak where one is trained on and the other tests.

Reading every byte of every image would take long, so what cannot be equal is put aside first: files and arrays of other
sizes, then those of which a sample differs. Only the rest is read whole.
"""

import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

_SAMPLE = 4096  # bytes at the start, in the middle and at the end of a file
_SAMPLES = 64  # of an array
_CHUNK = 1 << 20
_SHOWN = 3


@dataclass(frozen=True)
class Copy:
    """An image that is there a second time.

    Attributes:
        row: of the copy.
        first: row of the first one.
        kind: leak, labels (they have different ones) or twice.
        reason: what that means, and what to do.
    """

    row: int
    first: int
    kind: str
    reason: str


def equal_files(paths: Sequence[Path]) -> list[list[int]]:
    """Return the rows of files with equal content, two or more each; one that cannot be read is like no other."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

        def narrowed(rows: list[int], fact: Callable[[Path], Hashable]) -> Iterator[list[int]]:
            return _equal(rows, pool.map(lambda row: _or_none(fact, paths[row]), rows))

        rows = list(range(len(paths)))
        sizes = list(narrowed(rows, lambda path: path.stat().st_size or None))
        samples = [group for rows in sizes for group in narrowed(rows, _sample_of_file)]
        return sorted(group for rows in samples for group in narrowed(rows, _digest_of_file))


def equal_arrays(contents: Sequence[npt.NDArray[Any]]) -> list[list[int]]:
    """Return the rows of images with equal pixels or bytes, two or more each; contents are arrays of any shape."""
    samples = _equal(range(len(contents)), (_sample(content) for content in contents))
    digests = (
        _equal(rows, (hashlib.sha256(contents[row].tobytes()).digest() for row in rows)) for rows in list(samples)
    )
    return sorted(group for groups in digests for group in groups)


def copies(
    groups: Iterable[Sequence[int]], splits: Sequence[str], same_labels: Callable[[int, int], bool]
) -> Iterator[Copy]:
    """Yield what is there a second time.

    Args:
        groups: of `equal_files` or `equal_arrays`.
        splits: of each row.
        same_labels: whether two rows have the same labels.
    """
    for first, *others in groups:
        for row in others:
            if splits[row] != splits[first]:
                yield Copy(row, first, "leak", f"is in {splits[row]} and {splits[first]}: a leak; keep one")
            elif not same_labels(row, first):
                yield Copy(row, first, "labels", "has other labels; keep the one that is right")
            else:
                yield Copy(row, first, "twice", "counts twice; keep one")


_WORDS = {
    "leak": ("is in training and in test", "are in training and in test", "a leak, which makes test metrics too good"),
    "labels": ("is there twice with different labels", "are there twice with different labels", "one is wrong"),
    "twice": ("is there twice", "are there twice", "counted twice"),
}


def copy_notes(
    groups: Iterable[Sequence[int]],
    splits: Sequence[str],
    same_labels: Callable[[int, int], bool],
    name: Callable[[int], str],
) -> tuple[str, ...]:
    """Return a line for each kind of copy: how many there are, and some by name; arguments as of `copies`."""
    found = list(copies(groups, splits, same_labels))
    notes = []
    for kind, (one, several, what) in _WORDS.items():
        alike = [copy for copy in found if copy.kind == kind]
        if not alike:
            continue
        shown = ", ".join(f"{name(copy.first)} = {name(copy.row)}" for copy in alike[:_SHOWN])
        more = ", …" if len(alike) > _SHOWN else ""
        count = f"1 image {one}" if len(alike) == 1 else f"{len(alike)} images {several}"
        notes.append(f"{count} ({what}; keep one of each): {shown}{more}")
    return tuple(notes)


def names_below(paths: Sequence[Path]) -> Callable[[int], str]:
    """Return a function from a row to its file's name below the folder that all files share."""
    root = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return lambda row: os.path.relpath(paths[row], root).replace(os.sep, "/")


def _equal(rows: Iterable[int], facts: Iterable[Hashable]) -> Iterator[list[int]]:
    """Yield the rows of equal facts, where there are two or more; None is like nothing."""
    found: dict[Hashable, list[int]] = {}
    for row, fact in zip(rows, facts, strict=True):
        if fact is not None:
            found.setdefault(fact, []).append(row)
    return (group for group in found.values() if len(group) > 1)


def _or_none(fact: Callable[[Path], T], path: Path) -> T | None:
    try:
        return fact(path)
    except OSError:
        return None


def _sample_of_file(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        places = (0, size // 2, max(0, size - _SAMPLE)) if size > _SAMPLE else (0,)
        return b"".join(os.pread(file.fileno(), _SAMPLE, place) for place in places)


def _digest_of_file(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_CHUNK):
            digest.update(part)
    return digest.digest()


def _sample(content: npt.NDArray[Any]) -> tuple[tuple[int, ...], bytes]:
    flat = np.ascontiguousarray(content).reshape(-1)
    return content.shape, flat[:: max(1, len(flat) // _SAMPLES)].tobytes()
