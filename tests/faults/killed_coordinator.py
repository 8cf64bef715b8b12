"""`fednc run … --engine local` in a process of its own, which may kill itself at a chosen moment."""

import os
import signal
import sys
from collections.abc import Callable
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any


def run(words: list[str], point: str = "", nth: int = 1, how: str = "before", only: str = "") -> None:
    """Run the command; kill the process at the nth call of a function.

    Args:
        words: of the command.
        point: 'module:name', the function; '' for none.
        nth: among the calls that `only` is true of.
        how: before the call, after it, or after it with half of the file that it wrote.
        only: word that the call's arguments must contain.
    """
    if point:
        _arm(point, nth, how, only)
    sys.argv = ["fednc", "run", *words, "--engine", "local"]
    output = os.open(os.devnull, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    from server_app.cli import main

    main()


def _arm(point: str, nth: int, how: str, only: str) -> None:
    module, _, names = point.partition(":")
    *path, last = names.split(".")
    owner = reduce(getattr, path, import_module(module))
    real: Callable[..., Any] = getattr(owner, last)
    calls = 0

    def armed(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += only in repr(args)
        if calls < nth or only not in repr(args):
            return real(*args, **kwargs)
        if how != "before":
            real(*args, **kwargs)
        if how == "half":
            written = next(value for value in args if isinstance(value, Path))
            os.truncate(written, written.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    setattr(owner, last, armed)
