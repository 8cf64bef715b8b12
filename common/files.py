"""Files that this program makes: atomic, and for their owner alone; arrays as safetensors, nothing ever unpickled.

A folder that is made has mode 0700 and a file 0600, whatever the umask: runs and sites' folders hold what is known of
patients' images. A folder that was there before keeps its mode.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from common.errors import UserError


def private_folder(path: Path) -> Path:
    """Make a folder, and those above it that are not there, for their owner alone, and return it.

    Raises:
        OSError: it cannot be made.
    """
    if not path.is_dir():
        if not path.parent.is_dir():
            private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    return path


def private_file(path: Path, mode: str = "w", newline: str | None = None) -> IO[Any]:
    """Open a file to be written, text in UTF-8; one that is made is for its owner alone.

    Args:
        path: of the file.
        mode: as for `open`.
        newline: as for `open`.

    Raises:
        OSError: it cannot be opened.
    """
    encoding = None if "b" in mode else "utf-8"
    return open(path, mode, encoding=encoding, newline=newline, opener=lambda name, flags: os.open(name, flags, 0o600))


def _new_file(path: Path, mode: str = "w") -> IO[Any]:
    """Open a file in the place of one that a crash left, perhaps with another mode."""
    path.unlink(missing_ok=True)
    return private_file(path, mode.replace("w", "x"))


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
        _new_file(part).close()  # safetensors keeps the mode of what is there
        # not ascontiguousarray: it would turn a 0-d counter into shape (1,)
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, part, facts)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        _rename(part, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)  # what there is of it would only fill the disk
        raise UserError(f"{path}: cannot be written ({error}); make room for it, or let it be written") from None


def write_text(path: Path, text: str) -> None:
    """Write a small file in UTF-8 so that a crash or a power cut leaves the old one or the new one, and for its owner.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file as `write_text` does.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    part = path.with_suffix(".part")
    try:
        with _new_file(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _rename(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def check_new(path: Path, overwrite: bool) -> None:
    """Raise `UserError` where a command would write over what is there, and was not asked to."""
    if path.exists() and not overwrite:
        raise UserError(f"{path} is there, and nothing is overwritten: name another --output, or add --overwrite")


def _rename(part: Path, path: Path) -> None:
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)  # the rename itself must survive a power cut too
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class DamagedError(UserError):
    """A file whose content is not what was written; one that cannot be read just now is none."""


def read_arrays(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Return the arrays of a `.safetensors` file and the facts in its header.

    Raises:
        UserError: it is not there, or cannot be read just now: no right to, too many open files, a disk that fails.
        DamagedError: it is no such file, or its content is not what its header's `sha256`, if it has one, says.
    """
    try:
        path.open("rb").close()  # tells why it cannot be read, where safe_open says that it is not there
        with safe_open(path, framework="numpy") as file:
            about = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, MemoryError) as error:
        raise UserError(f"{path}: cannot be read just now ({error}); let it be read, and try again") from None
    except Exception as error:  # a damaged header may say anything
        raise DamagedError(f"{path}: cannot be read as safetensors ({error}); copy it again") from None
    if about.get("sha256", digest := _digest(arrays, about)) != digest:
        raise DamagedError(f"{path}: is damaged, its content is not what was written; copy it again")
    return arrays, about


def facts_of(path: Path) -> dict[str, str]:
    """Return the facts in a `.safetensors` file's header; none where it cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except Exception:  # a damaged header may say anything
        return {}


def read_own(path: Path, fix: str) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a file that this program wrote on this machine.

    Args:
        path: of the file.
        fix: what to do if it is damaged.

    Raises:
        UserError: it cannot be read, or is not as it was written.
    """
    try:
        arrays, about = read_arrays(path)
    except DamagedError as error:
        raise DamagedError(f"{str(error).removesuffix('; copy it again')}; {fix}") from None
    if "sha256" not in about:
        raise DamagedError(f"{path}: has no content hash: it is damaged, or of another version; {fix}")
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
