"""A site: its data, local training, personal head, local realignment (LA-FR)."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

# before anything imports `common`, which may be another's: that would end in a traceback that names no cause
_common = Path(__file__).parent.parent / "common"
_found = getattr(find_spec("common"), "origin", "")
if _found != str(_common / "__init__.py") or getattr(import_module("common"), "DISTRIBUTION", "") != "fednc":
    from runpy import run_path

    run_path(str(_common / "own_packages.py"))["refuse_shadow"](__file__)
