"""The site's own disk: personal parts, the final personal model and the cached frame, written atomically, never sent.

Flower's node state lives in memory and dies with the SuperNode; what must outlive it is kept here
as safetensors, one folder a run and site.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from common.errors import UserError
from common.files import facts_of, private_folder, read_own, save_arrays

_MODEL = "personal_model"
_SUFFIX, _UNDONE = ".safetensors", ".undone.safetensors"


class SiteStore:
    """Files of one site in one run.

    Args:
        folder: the site's folder for runs of this name; made if absent.
        identity: of the run: versions of another one are not seen; '' where the folder is one run's alone.

    Raises:
        UserError: it cannot be made.
    """

    def __init__(self, folder: Path, identity: str = "") -> None:
        self.folder, self._identity = folder, identity
        self._prefix = f"personal-{identity}-" if identity else "personal-"
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

    def save_model(self, arrays: Mapping[str, npt.NDArray[Any]], **about: str | int) -> Path:
        """Write the final personal model, `personal_model.safetensors`; that of another run is kept beside it.

        Args:
            arrays: the model.
            about: as of `save`.

        Raises:
            UserError: it cannot be written; what was there is still there.
        """
        path = self.folder / f"{_MODEL}.safetensors"
        if path.exists():
            facts = facts_of(path)
            if (theirs := facts.get("identity", "")) != self._identity:
                path.replace(path.with_stem(f"{_MODEL}-{theirs or facts.get('sha256', 'damaged')[:16]}"))
        return self.save(_MODEL, arrays, identity=self._identity, **about)

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
        self,
        arrays: Mapping[str, npt.NDArray[Any]],
        server_round: int,
        checkpointed: Sequence[int] = (0,),
        every: int = 1,
    ) -> None:
        """Keep the personal parts as they are after a round, beside the versions that a resumed run may need.

        A version of this round or a later one is of a run that was taken up again earlier: it is put aside as
        `*.undone.safetensors`, which no round starts from, until the coordinator has a checkpoint of its round again.
        One message alone thus deletes no version that is the newest. Versions of other runs stay: theirs may be
        taken up again, which only people know; see docker/README.md.

        Args:
            arrays: the personal parts.
            server_round: the round that made them.
            checkpointed: rounds of which the coordinator keeps a checkpoint; of each, the newest version up to it
                stays, for a start that goes on from there.
            every: rounds between checkpoints: of those to come, the newest version of each or before stays.

        Raises:
            UserError: they cannot be written; what was there is still there.
        """
        for later in (n for n in self._versions() if n >= server_round):
            self._version(later).replace(self._version(later).with_suffix(_UNDONE))
        self.save(self._version(server_round).stem, arrays, round=server_round)
        versions, last = self._versions(), max(checkpointed)
        for old, newer in itertools.pairwise(versions):  # a start after a round of old..newer - 1 needs `old`
            first_to_come = every * -(-max(old, last + 1) // every)
            if not (any(old <= start < newer for start in checkpointed) or first_to_come < newer):
                self._version(old).unlink()
        self.delete_undone(checkpointed)

    def delete_undone(self, checkpointed: Sequence[int]) -> None:
        """Delete the versions put aside of which the coordinator has a checkpoint again, of their round or later."""
        for undone in (n for n in self._versions(_UNDONE) if n <= max(checkpointed)):
            self._version(undone).with_suffix(_UNDONE).unlink()

    def load_version(self, server_round: int) -> tuple[int, dict[str, npt.NDArray[Any]] | None]:
        """Return what a round starts from: the newest version made before it, with its round; 0, None without one."""
        earlier = [n for n in self._versions() if n < server_round]
        return (earlier[-1], self.load(self._version(earlier[-1]).stem)) if earlier else (0, None)

    def has_other_runs(self) -> bool:
        """Whether runs of the same name and another identity have left versions here."""
        own = {self._version(n) for n in self._versions()}
        own |= {self._version(n).with_suffix(_UNDONE) for n in self._versions(_UNDONE)}
        return any(path not in own for path in self.folder.glob("personal-*.safetensors"))

    def _versions(self, suffix: str = _SUFFIX) -> list[int]:
        """Return the rounds of the versions, or of those put aside, oldest first."""
        names = (path.name.removeprefix(self._prefix) for path in self.folder.glob(f"{self._prefix}*{suffix}"))
        return sorted(int(round_) for name in names if (round_ := name.removesuffix(suffix)).isdecimal())

    def _version(self, server_round: int) -> Path:
        return self.folder / f"{self._prefix}{server_round:05}{_SUFFIX}"
