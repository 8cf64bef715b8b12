"""Checks of what a command was given: all mistakes at once, before anything heavy is imported."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.config import Experiment
from common.config.effects import missing_condition_everywhere, no_effect_message
from common.errors import MistakesError, UserError


def check_simulated(experiment: Experiment) -> None:
    """Raise `UserError` for an experiment whose images are at real sites, where sites are to be simulated."""
    if experiment.sites.partition == "deployed":
        raise UserError(
            "partition = 'deployed': the images are at real sites; run it with "
            "`fednc run … --superlink CONNECTION` (see docker/README.md), or set another partition to simulate sites"
        )


def check_own_runs(given: Mapping[str, Any], what: str) -> None:
    """Raise `UserError` for words that say which run to continue, where a command has many and does so by itself."""
    for key in ("run-name", "resume"):
        if given.get(key, "") not in ("", None):
            why = f"{what} names its runs itself, and with the same --output it goes on with them"
            raise UserError(f"{key} = {given[key]!r}: {why}; leave it out")


def check_effective(given: Mapping[str, Any], source: str, experiments: Sequence[Experiment]) -> None:
    """Raise `UserError` for keys that were given and act in none of the experiments.

    Args:
        given: key → value, or values.
        source: what errors name.
        experiments: that have those keys.
    """
    needed = {key: missing_condition_everywhere(key, experiments) for key in given}
    if found := [(source, no_effect_message(key, given[key], words)) for key, words in needed.items() if words]:
        raise MistakesError(found)
