"""A run's folder: locked by one process at a time; a failed write becomes a one-line error."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import UserError
from common.files import private_file, private_folder


def make_folder(folder: Path) -> None:
    """Make a run's folder if absent; raise `UserError` where that cannot be."""
    try:
        private_folder(folder)
    except OSError as error:
        raise UserError(f"output-dir: cannot make {folder} ({error.strerror}); choose another") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder, made if absent: nothing is written there before.

    Raises:
        UserError: it cannot be made, or another process is at work there, perhaps a coordinator that was believed dead.
    """
    make_folder(folder)
    path = folder / "lock"
    with explain_write_errors(path):
        file = private_file(path, "a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a process that dies gives it back
        except BlockingIOError:
            raise UserError(f"{folder}: another process is at work there: let it end, or end it") from None
        except OSError as error:  # some shares of a network
            raise UserError(
                f"{path}: cannot be locked ({error.strerror}), so another process could write there too; choose an "
                "output-dir on another disk"
            ) from None
        yield


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` while writing a file of the run into a one-line `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); make room, and run again with run-name and resume=true"
        ) from None
