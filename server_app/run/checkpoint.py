"""Checkpoints of the coordinator: all that the next round needs, written atomically, with a content hash.

Every random stream derives from (seed, purpose, site, round), so no generator has a state of its own to keep.
"""

from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from common.files import DamagedError, private_folder, read_arrays, save_arrays
from common.wire import Arrays
from server_app.run.disk import explain_write_errors
from server_app.run.journal import log

_MODEL, _METHOD, _SITES, _TRAINED, _OPTIMISER = "model/", "method/", "sites/", "trained/", "optimiser/"


@dataclass(frozen=True)
class Checkpoint:
    """The state after a round.

    Attributes:
        server_round: the last finished round.
        arrays: what the sites are sent next.
        method: state of the coordinator's half of the method.
        sites: of `Cooldown`.
        trained: of `PersonalPartsTracker`.
        optimiser: of `ServerOptimiser`.
        identity: of the run; '' in a checkpoint of a version that did not keep it there.
    """

    server_round: int
    arrays: Arrays
    method: Arrays
    sites: Arrays = field(default_factory=dict)
    trained: Arrays = field(default_factory=dict)
    optimiser: Arrays = field(default_factory=dict)
    identity: str = ""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Write `checkpoints/round-00050.safetensors` and remove all but the last `keep`.

    Raises:
        UserError: it cannot be written; the ones before it stay.
    """
    checkpoints = folder / "checkpoints"
    with explain_write_errors(checkpoints):
        private_folder(checkpoints)
    arrays = {_MODEL + name: array for name, array in checkpoint.arrays.items()}
    arrays |= {_METHOD + name: array for name, array in checkpoint.method.items()}
    arrays |= {_SITES + name: array for name, array in checkpoint.sites.items()}
    arrays |= {_TRAINED + name: array for name, array in checkpoint.trained.items()}
    arrays |= {_OPTIMISER + name: array for name, array in checkpoint.optimiser.items()}
    about = {"round": str(checkpoint.server_round), "identity": checkpoint.identity}
    path = checkpoints / _file_name(checkpoint.server_round)
    try:
        save_arrays(path, arrays, about)
    except UserError as error:
        raise UserError(f"{error}; then run again with resume=true") from None
    for old in checkpoint_rounds(folder)[:-keep]:
        with explain_write_errors(checkpoints):
            (checkpoints / _file_name(old)).unlink()


def kept_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return all checkpoints of a run, oldest first.

    Raises:
        UserError: one of them cannot be read.
    """
    found = []
    for number in checkpoint_rounds(folder):
        path = folder / "checkpoints" / _file_name(number)
        try:
            found.append(_read(path))
        except (DamagedError, ValueError, KeyError, OSError) as error:
            raise UserError(f"{path}: cannot be read ({error}); remove it, or put a copy there") from None
    return found


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return a run's last sound checkpoint, None if it never had one.

    A damaged one is named in the log, renamed to `*.damaged` and passed over: it must not count among those kept.

    Raises:
        UserError: one cannot be read just now, or all that there were are damaged: beginning again, unasked, would
            cost the sites their personal parts.
    """
    checkpoints = folder / "checkpoints"
    try:
        there = list(checkpoints.iterdir())  # not glob, which finds nothing where it may not look
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{checkpoints}: cannot be read just now ({error.strerror}); let it be, and resume") from None
    for number in reversed(checkpoint_rounds(folder)):
        path = checkpoints / _file_name(number)
        try:
            return _read(path)
        except (DamagedError, ValueError, KeyError) as error:
            log.warning("%s is damaged (%s): trying the one before it", path.name, error)
            with explain_write_errors(path):
                path.replace(path.with_suffix(".damaged"))
    if any(path.match("round-*.safetensors") or path.match("round-*.damaged") for path in there):
        raise UserError(
            f"{checkpoints}: no checkpoint is sound; put a copy there, or, to begin this run again from its first "
            "round, remove that folder and run once more"
        )
    return None


def checkpoint_rounds(folder: Path) -> list[int]:
    """Return the rounds of the checkpoints that are kept, oldest first."""
    names = (path.stem.removeprefix("round-") for path in (folder / "checkpoints").glob("round-*.safetensors"))
    return sorted(int(name) for name in names if name.isdecimal())


def _file_name(server_round: int) -> str:
    return f"round-{server_round:05}.safetensors"  # from round 100000 on the names' order is not the rounds'


def _read(path: Path) -> Checkpoint:
    arrays, about = read_arrays(path)
    if "sha256" not in about:
        raise ValueError("it has no content hash")

    def part(prefix: str) -> Arrays:
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    rest = part(_METHOD), part(_SITES), part(_TRAINED), part(_OPTIMISER), about.get("identity", "")
    return Checkpoint(int(about["round"]), part(_MODEL), *rest)
