"""What is wrong with an experiment's words, all of it at once, before anything heavy is imported."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from common.config import Experiment
from common.effects import idle, idle_everywhere
from common.errors import MistakesError, UserError

T = TypeVar("T")


def check_simulated(experiment: Experiment) -> None:
    """Raise `UserError` for an experiment whose images are at real sites, where sites are to be simulated."""
    if experiment.partition == "deployed":
        raise UserError(
            "partition = 'deployed': the images are at real sites; run it with "
            "`fednc run … --superlink CONNECTION` (see docker/README.md), or set another partition to simulate sites"
        )


def all_of(makers: Iterable[Callable[[], T]]) -> list[T]:
    """Return what each call returns; raise `UserError` with the mistakes of all that end with one."""
    made, found = [], []
    for make in makers:
        try:
            made.append(make())
        except UserError as error:
            found += error.found if isinstance(error, MistakesError) else [("", str(error))]
    if found:
        raise MistakesError(found)
    return made


def check_acting(given: Mapping[str, Any], source: str, experiments: Sequence[Experiment]) -> None:
    """Raise `UserError` for keys that were given and act in none of the experiments.

    Args:
        given: key → value, or values.
        source: what errors name.
        experiments: that have those keys.
    """
    needed = {key: idle_everywhere(key, experiments) for key in given}
    if found := [(source, idle(key, given[key], words)) for key, words in needed.items() if words]:
        raise MistakesError(found)
