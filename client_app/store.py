"""The site's own disk: personal parts, the final personal model and the cached frame, written atomically, never sent.

Flower's node state lives in memory and dies with the SuperNode; what must outlive it is kept here
as safetensors, one folder a run and site.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from common.errors import UserError
from common.files import save_arrays


class SiteStore:
    """Files of one site in one run.

    Args:
        folder: the site's folder for this run; made if absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, name: str, arrays: Mapping[str, npt.NDArray[Any]], **about: str | int) -> Path:
        """Write `<name>.safetensors` atomically and return its path.

        Args:
            name: file stem, e.g. 'personal'.
            arrays: what to keep.
            about: short facts kept in the file's header, such as the round.
        """
        path = self.folder / f"{name}.safetensors"
        save_arrays(path, arrays, {key: str(value) for key, value in about.items()})
        return path

    def load(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        """Return the arrays of `<name>.safetensors`, or None if the site has none yet.

        Raises:
            UserError: the file is damaged.
        """
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            return None
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: cannot be read ({error}); remove it to start this site afresh") from None
