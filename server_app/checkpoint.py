"""Checkpoints of the coordinator: all that the next round needs, written atomically, with a content hash.

Every random stream derives from (seed, purpose, site, round), so no generator has a state of its own to keep.
"""

from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from common.files import read_arrays, save_arrays
from common.wire import Arrays
from server_app.journal import log

_MODEL, _METHOD, _SITES = "model/", "method/", "sites/"


@dataclass(frozen=True)
class Checkpoint:
    """The state after a round.

    Attributes:
        server_round: the last finished round.
        arrays: what the sites are sent next.
        method: state of the coordinator's half of the method.
        sites: of `Resting`.
    """

    server_round: int
    arrays: Arrays
    method: Arrays
    sites: Arrays = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Write `checkpoints/round-00050.safetensors` and remove all but the last `keep`.

    Raises:
        UserError: it cannot be written; the ones before it stay.
    """
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    arrays = {_MODEL + name: array for name, array in checkpoint.arrays.items()}
    arrays |= {_METHOD + name: array for name, array in checkpoint.method.items()}
    arrays |= {_SITES + name: array for name, array in checkpoint.sites.items()}
    about = {"round": str(checkpoint.server_round)}
    path = checkpoints / f"round-{checkpoint.server_round:05}.safetensors"
    try:
        save_arrays(path, arrays, about)
    except UserError as error:
        raise UserError(f"{error}; then run again with resume=true") from None
    for old in sorted(checkpoints.glob("round-*.safetensors"))[:-keep]:
        old.unlink()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return a run's last sound checkpoint, None if it has none.

    A damaged one is named in the log, renamed to `*.damaged` and passed over: it must not count among those kept.
    """
    for path in sorted((folder / "checkpoints").glob("round-*.safetensors"), reverse=True):
        try:
            return _read(path)
        except (UserError, ValueError, KeyError) as error:
            log.warning("%s is damaged (%s): trying the one before it", path.name, error)
            path.replace(path.with_suffix(".damaged"))
    return None


def oldest_checkpoint(folder: Path) -> int:
    """Return the round of the oldest checkpoint that is kept, 0 without any."""
    names = (path.stem.removeprefix("round-") for path in (folder / "checkpoints").glob("round-*.safetensors"))
    return min((int(name) for name in names if name.isdecimal()), default=0)


def _read(path: Path) -> Checkpoint:
    arrays, about = read_arrays(path)
    if "sha256" not in about:
        raise ValueError("it has no content hash")

    def part(prefix: str) -> Arrays:
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    return Checkpoint(int(about["round"]), part(_MODEL), part(_METHOD), part(_SITES))
