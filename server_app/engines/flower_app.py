"""The folder that Flower packs into an app: the same files from a checkout and from an installed package."""

import shutil
from pathlib import Path

from common.config import APP_ROOT
from common.errors import UserError
from common.files import private_folder

_PACKAGES = ("server_app", "client_app", "common")
_PROJECT = ("pyproject.toml", "README.md", "LICENSE")
# what the wheel holds within the packages, see pyproject.toml
_PACKED_CONFIGS, _PACKED_PROJECT = Path("common", "configs"), Path("server_app", "project")
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "configs", "project", "docker", "start")  # of the commands


def write_app(folder: Path) -> Path:
    """Copy this code, its experiments and its project file to a new folder, and return that.

    Args:
        folder: made here; its parent is there.

    Raises:
        UserError: the installation lacks one of them.
    """
    checkout = (APP_ROOT / "pyproject.toml").is_file()
    configs = APP_ROOT / ("configs" if checkout else _PACKED_CONFIGS)
    files = [(APP_ROOT if checkout else APP_ROOT / _PACKED_PROJECT) / name for name in _PROJECT]
    if missing := [path for path in (configs, *files) if not path.exists()]:
        raise UserError(f"{missing[0]} is not in this installation: install FedNC again")
    private_folder(folder)
    for name in _PACKAGES:
        shutil.copytree(APP_ROOT / name, folder / name, ignore=_NOT_COPIED)
    shutil.copytree(configs, folder / "configs")
    for path in files:
        shutil.copy(path, folder)
    return folder
