"""Folders and files that a person, or another machine, names."""

import os
from pathlib import Path

from common.errors import UserError, short_repr


def default_dir(variable: str, below_home: str) -> Path:
    """Return the folder that an environment variable names, else one below the home folder."""
    path = expand(os.environ.get(variable) or Path.home() / below_home, variable)
    if not path.is_absolute():
        raise UserError(f"{variable} = {str(path)!r}: a Flower run does not know your folder; give an absolute path")
    return path


def expand(value: str | Path, what: str) -> Path:
    """Replace a leading ~; raise `UserError` where there is no such home, or the text cannot be a path."""
    try:
        if "\0" in str(value):
            raise ValueError("it contains a zero byte")
        if max(map(len, os.fsencode(value).split(b"/"))) > 255 or len(str(value)) > 4000:
            raise ValueError("it is too long")
        return Path(value).expanduser()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{what} = {short_repr(str(value))}: not a path: {error}") from None
