"""Arrays on disk as safetensors, written atomically. Nothing is ever unpickled."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from common.errors import UserError


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]], about: Mapping[str, str]) -> None:
    """Write arrays so that a crash leaves the old file or the new one, never half of it.

    Args:
        path: the `.safetensors` file.
        arrays: what to keep.
        about: short facts kept in the file's header, to which a content hash of arrays and facts is added.

    Raises:
        UserError: it cannot be written, for example because the disk is full; what was there before stays.
    """
    part = path.with_suffix(".part")
    facts = {**about, "sha256": _digest(arrays, about)}
    try:
        # not ascontiguousarray: it would turn a 0-d counter into shape (1,)
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, part, facts)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)  # the rename itself must survive a power cut too
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)  # what there is of it would only fill the disk
        raise UserError(f"{path}: cannot be written ({error}); make room for it, or let it be written") from None


def read_arrays(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Return the arrays of a `.safetensors` file and the facts in its header.

    Raises:
        UserError: it cannot be read, or its content is not what its header's `sha256`, if it has one, says.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except Exception as error:  # a damaged header may say anything
        raise UserError(f"{path}: cannot be read as safetensors ({error}); copy it again") from None
    if about.get("sha256", digest := _digest(arrays, about)) != digest:
        raise UserError(f"{path}: is damaged, its content is not what was written; copy it again")
    return arrays, about


def read_own(path: Path, mend: str) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a file that this program wrote on this machine.

    Args:
        path: of the file.
        mend: what to do if it is damaged.

    Raises:
        UserError: it cannot be read, or is not as it was written.
    """
    try:
        arrays, about = read_arrays(path)
    except UserError as error:
        raise UserError(f"{str(error).removesuffix('; copy it again')}; {mend}") from None
    if "sha256" not in about:
        raise UserError(f"{path}: has no content hash: it is damaged, or of another version; {mend}")
    return arrays


def _digest(arrays: Mapping[str, npt.NDArray[Any]], about: Mapping[str, str]) -> str:
    facts = json.dumps(sorted((key, value) for key, value in about.items() if key != "sha256"))
    return hashlib.sha256(f"{arrays_digest(arrays)} {facts}".encode()).hexdigest()


def arrays_digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return a content hash of named arrays, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.asarray(array, order="C").tobytes())
    return digest.hexdigest()
