"""Cooldown: a site that fails repeatedly is not asked for some rounds, so that the others need not wait for it.

It begins after `rest-after` failures in a row and lasts `rest-rounds` rounds; failing once more after that, the site
cools down again. If too few sites were left for the quorum of all sites, or for what a robust aggregation needs, all
sites are asked.
"""

from collections.abc import Collection, Sequence

import numpy as np

from common.config import Experiment
from common.wire import Arrays
from server_app.aggregation.robust import min_models, quorum_size
from server_app.rounds.round import Round
from server_app.run.journal import Journal, log


class Cooldown:
    """Tracks failing sites; saved in the checkpoint, so that a resumed run asks the same sites.

    Args:
        experiment: `rest-after`, `rest-rounds`, `quorum`.
        journal: the run's.
    """

    def __init__(self, experiment: Experiment, journal: Journal) -> None:
        self._experiment, self._journal = experiment, journal
        self._failures: dict[str, int] = {}  # in a row, of sites that failed last time
        self._until: dict[str, int] = {}  # last round of each site's cooldown

    def eligible(self, names: Sequence[str], server_round: int, training_sites: Collection[str]) -> list[str]:
        """Return the sites that a round may ask, of all; `training_sites` are those that have training images."""
        found = [name for name in names if self._until.get(name, 0) < server_round]
        models = sum(name in training_sites for name in found)
        enough = len(found) >= quorum_size(self._experiment, len(names))
        return found if enough and models >= min_models(self._experiment) else list(names)

    def record(self, now: Round) -> None:
        """Update the failure counts after a round, and start cooldowns."""
        for site in now.asked:
            if site in now.answered:
                self._failures.pop(site, None)
                self._until.pop(site, None)
                continue
            self._failures[site] = self._failures.get(site, 0) + 1
            if self._experiment.rounds.rest_after and self._failures[site] >= self._experiment.rounds.rest_after:
                self._start(site, now.number)

    def _start(self, site: str, server_round: int) -> None:
        self._until[site] = until = server_round + self._experiment.rounds.rest_rounds
        times = self._failures[site]
        log.warning("%s has failed %d times in a row: it rests and is asked again in round %d", site, times, until + 1)
        self._journal.event("rest", round=server_round, site=site, failures=times, until=until)

    def state(self) -> Arrays:
        """Return, for each site that failed last time, its failures and the last round of its cooldown, int64 [2]."""
        return {name: np.array([n, self._until.get(name, 0)], np.int64) for name, n in self._failures.items()}

    def restore(self, state: Arrays) -> None:
        """Take over what `state` returned."""
        self._failures = {name: int(values[0]) for name, values in state.items()}
        self._until = {name: int(values[1]) for name, values in state.items()}
