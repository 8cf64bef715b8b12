"""Where the commands `fednc` and `fednc-site` begin: a name of FedNC's alone, found whatever else is installed.

Many Flower projects have a `server_app` and a `client_app`. This file is a module by itself, beside the three packages
(pyproject.toml puts it there), and says so where another's would be started.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

_OWN = Path("common", "own_packages.py")  # in every copy of FedNC, beside the apps


def fednc() -> None:
    """Start the researcher's and coordinator's command."""
    _start("server_app")


def fednc_site() -> None:
    """Start the command of a site's engineer."""
    _start("client_app")


def _start(app: str) -> None:
    spec = find_spec(app)
    found = str((spec and spec.origin) or "")
    if not found or not (Path(found).resolve().parent.parent / _OWN).is_file():
        root = next((folder for folder in Path(__file__).resolve().parents if (folder / _OWN).is_file()), None)
        if root is None:
            sys.exit(f"error: {_OWN} is missing beside {__file__}: install FedNC again")
        hidden = run_path(str(root / _OWN))["hidden"]
        sys.exit(f"error: {hidden(app, found, root) if found else f'{root / app} is missing: install FedNC again'}")
    import_module(f"{app}.cli").main()
