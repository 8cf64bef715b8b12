"""The site's own disk: personal parts, the final personal model and the cached frame, written atomically, never sent.

Flower's node state lives in memory and dies with the SuperNode; what must outlive it is kept here
as safetensors, one folder a run and site.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from common.errors import UserError
from common.files import private_folder, read_own, save_arrays


class SiteStore:
    """Files of one site in one run.

    Args:
        folder: the site's folder for runs of this name; made if absent.
        identity: of the run: versions of another one are not seen; '' where the folder is one run's alone.

    Raises:
        UserError: it cannot be made.
    """

    def __init__(self, folder: Path, identity: str = "") -> None:
        self.folder, self._prefix = folder, f"personal-{identity}-" if identity else "personal-"
        try:
            private_folder(folder)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); look at state-dir") from None

    def save(self, name: str, arrays: Mapping[str, npt.NDArray[Any]], **about: str | int) -> Path:
        """Write `<name>.safetensors` atomically and return its path.

        Args:
            name: file stem, e.g. 'personal'.
            arrays: what to keep.
            about: short facts kept in the file's header, such as the round.

        Raises:
            UserError: it cannot be written; what was there is still there.
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
        return read_own(path, "remove it, and the site starts from what it has beside")

    def save_version(
        self, arrays: Mapping[str, npt.NDArray[Any]], server_round: int, secured: Sequence[int] = (0,), every: int = 1
    ) -> None:
        """Keep the personal parts as they are after a round, beside the versions that a resumed run may need.

        Versions of other runs stay: theirs may be taken up again, which only people know; see docker/README.md.

        Args:
            arrays: the personal parts.
            server_round: the round that made them.
            secured: rounds of which the coordinator keeps a checkpoint; of each, the newest version of it or before
                stays, for a start that goes on from there.
            every: rounds between checkpoints: of those to come, the newest version of each or before stays.
        """
        for later in (n for n in self._versions() if n >= server_round):  # of a run that was taken up again
            self._version(later).unlink()
        self.save(self._version(server_round).stem, arrays, round=server_round)
        versions = self._versions()
        starts = [*secured, *range(every * (max(secured) // every + 1), server_round, every), server_round]
        needed = {max((n for n in versions if n <= start), default=0) for start in starts}
        for old in (n for n in versions if n not in needed):
            self._version(old).unlink()

    def load_version(self, server_round: int) -> dict[str, npt.NDArray[Any]] | None:
        """Return the personal parts that a round starts from: the newest made before it, None if there are none."""
        earlier = [n for n in self._versions() if n < server_round]
        return self.load(self._version(earlier[-1]).stem) if earlier else None

    def of_other_runs(self) -> bool:
        """Whether runs of the same name and another identity have left versions here."""
        own = {self._version(n) for n in self._versions()}
        return any(path not in own for path in self.folder.glob("personal-*.safetensors"))

    def _versions(self) -> list[int]:
        names = (path.stem.removeprefix(self._prefix) for path in self.folder.glob(f"{self._prefix}*.safetensors"))
        return sorted(int(name) for name in names if name.isdecimal())

    def _version(self, server_round: int) -> Path:
        return self.folder / f"{self._prefix}{server_round:05}.safetensors"
