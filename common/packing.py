"""Arrays as Flower's messages carry them, NumPy's own format, with as few copies as can be."""

import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Message
from numpy.lib import format as npy

from common.files import arrays_digest

Arrays = dict[str, npt.NDArray[Any]]

_NUMPY = "numpy.ndarray"  # Flower's word for NumPy's own format
_FIXED = 10  # bytes before a header of version 1.0: magic, version, and how long the header is
_HEADERS = 1024  # that are kept: a model's arrays have the same ones in every message


def pack(arrays: Mapping[str, npt.NDArray[Any]]) -> ArrayRecord:
    """Turn named arrays into Flower's record."""
    record = ArrayRecord()  # given a mapping, it would make each array once more
    for name, array in arrays.items():
        record[name] = packed(np.asarray(array, order="C"))
    return record


def unpack(message: Message, record: str) -> Arrays:
    """Return the named arrays of one record of a message, empty if it is absent; anything else raises."""
    found = message.content.get(record, ArrayRecord())
    if not isinstance(found, ArrayRecord):
        raise TypeError(f"{record} is no record of arrays")
    if odd := [name for name, array in found.items() if not array.data.startswith(b"\x93NUMPY")]:
        raise ValueError(f"{odd[0]} is not in NumPy's own format")  # nor an archive, which NumPy would open
    return {name: unpacked(array) for name, array in found.items()}


def num_bytes(message: Message) -> int:
    """Return the bytes of all arrays in a message (the rest is a few hundred bytes)."""
    return sum(len(a.data) for r in message.content.array_records.values() for a in r.values())


def packed(array: npt.NDArray[Any]) -> Array:
    """Return what `Array(array)` does, bytes for bytes, with one copy instead of several.

    Args:
        array: of any shape, its rows one after the other (order C).
    """
    content = array.reshape(-1).view(np.uint8)
    kind, header = _header(array.dtype, array.shape)
    return Array(kind, array.shape, _NUMPY, b"".join((header, content.data)))


def unpacked(array: Array) -> npt.NDArray[Any]:
    """Return an array over a message's own bytes, which cannot be written; objects raise."""
    data = array.data
    if array.stype != _NUMPY or npy.read_magic(BytesIO(data[:_FIXED])) != (1, 0):
        return array.numpy()
    start = _FIXED + int.from_bytes(data[_FIXED - 2 : _FIXED], "little")
    shape, by_columns, dtype = _read(data[:start])
    if dtype.hasobject:
        raise ValueError("objects do not cross")
    size = math.prod(shape)
    flat = np.frombuffer(data, dtype, size, start) if size else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if by_columns else "C")


@lru_cache(_HEADERS)
def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[str, bytes]:
    """Return the type's name and NumPy's header."""
    stream = BytesIO()
    about = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(stream, about)
    return str(dtype), stream.getvalue()


@lru_cache(_HEADERS)
def _read(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    stream = BytesIO(header)
    npy.read_magic(stream)
    return npy.read_array_header_1_0(stream)


def frame_digest(frame: npt.NDArray[np.float32] | None, fixed: Mapping[str, npt.NDArray[Any]] | None = None) -> str:
    """Return the content hash by which a site caches what is sent once, '' for nothing."""
    if fixed:
        return arrays_digest({**fixed, **({} if frame is None else {"frame": frame})})
    if frame is None:
        return ""
    return hashlib.sha256(repr(frame.shape).encode() + np.ascontiguousarray(frame).tobytes()).hexdigest()
