"""One file a method: its local loss, its personal prediction, how it personalises at the end.

`load("fedloge")` imports `client_app.methods.fedloge` and returns its `METHOD`.
"""

from importlib import import_module

from client_app.methods.base import LocalMethod, OwnImages, Phase
from common.errors import unknown
from common.methods import METHODS

__all__ = ["LocalMethod", "OwnImages", "Phase", "load"]


def load(name: str) -> LocalMethod:
    """Return the site's half of a method of `common/methods`.

    Raises:
        UserError: no such method.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    method: LocalMethod = import_module(f"client_app.methods.{name}").METHOD
    return method
