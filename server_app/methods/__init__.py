"""The coordinator's half of the methods that do more than average: one file each, of the method's name.

`load("creff")` returns what `server_app.methods.creff` defines; a method without such a file averages and no more.
"""

from importlib import import_module
from importlib.util import find_spec

from server_app.methods.base import ServerMethod

__all__ = ["ServerMethod", "load"]


def load(name: str) -> type[ServerMethod]:
    """Return the coordinator's half of a method of `common/methods`."""
    module = f"{__name__}.{name}"
    if find_spec(module) is None:
        return ServerMethod
    method: type[ServerMethod] = import_module(module).METHOD
    return method
