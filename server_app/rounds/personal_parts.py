"""What the coordinator knows of the sites' personal parts: the last round each trained in, and who has lost them since.

A site's personal parts stay there. Its reply says which round made those that it started from; were they lost, its
personal model would begin anew unnoticed.
"""

import numpy as np

from common.wire import STARTED_FROM, Arrays, Reply
from server_app.run.journal import Journal, log


class PersonalPartsTracker:
    """Tracks the round of each site's personal parts and detects lost ones; saved in the checkpoint.

    Args:
        journal: the run's.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._trained: dict[str, int] = {}  # by finished rounds
        self._unconfirmed: dict[str, int] = {}  # from replies of a round that is not finished yet

    def trained(self, site: str) -> int:
        """Return the last finished round that a site trained its personal parts in; 0 for none."""
        return self._trained.get(site, 0)

    def record(self, site: str, reply: Reply) -> None:
        """Record which round a site trained in, and warn if it started from older personal parts than it had."""
        if (started_from := reply.metrics.get(STARTED_FROM)) is None:
            return
        number, had, has = int(reply.round), self.trained(site), int(started_from)
        self._unconfirmed[site] = number
        if has >= had:
            return
        found = f"went on from those of round {has}" if has else "began anew"
        log.warning("round %d: %s has lost its personal parts of round %d, and %s", number, site, had, found)
        self._journal.event("lost", round=number, site=site, what="personal parts", had=had, has=has)

    def accept(self, server_round: int) -> None:
        """Confirm the records of a finished round."""
        self._trained |= {site: number for site, number in self._unconfirmed.items() if number == server_round}

    def state(self) -> Arrays:
        """Return the last round of each site, int64 []."""
        return {name: np.array(number, np.int64) for name, number in self._trained.items()}

    def restore(self, state: Arrays) -> None:
        """Take over what `state` returned."""
        self._trained = {name: int(number) for name, number in state.items()}
