"""Real sites that connect while a run goes on: a late one joins, one that was set up anew takes its place again."""

from flwr.serverapp import Grid

from common.config import Experiment
from server_app.journal import Journal, log
from server_app.sites import SiteFacts, ask_names, leave_out

_PATIENCE = 60.0  # seconds that a round's start may wait for newcomers
_TRIES = 3  # a node that does not answer, or must not take part, is asked so often


class Newcomers:
    """Looks for new nodes before each round.

    Args:
        experiment: the run.
        sites: every site by name; newcomers are added.
        journal: the run's.
    """

    def __init__(self, experiment: Experiment, sites: dict[str, SiteFacts], journal: Journal) -> None:
        self._experiment, self._sites, self._journal = experiment, sites, journal
        self._tries: dict[int, int] = {}

    def welcome(self, grid: Grid, server_round: int) -> None:
        """Ask unknown nodes who they are, and let in those that can take part."""
        connected = set(grid.get_node_ids())
        known = {facts.node_id for facts in self._sites.values()}
        new = sorted(node for node in connected - known if self._tries.get(node, 0) < _TRIES)
        if not new:
            return
        for node in new:
            self._tries[node] = self._tries.get(node, 0) + 1
        patience = min(_PATIENCE, self._experiment.round_timeout)
        for hello, facts in ask_names(grid, self._experiment, new, patience, journal=self._journal):
            before = self._sites.get(hello)
            if before and before.node_id in connected:
                leave_out(facts.node_id, f"another site calls itself '{hello}', too", self._journal)
                continue
            self._sites[hello] = facts
            log.info("%s %s in round %d", hello, "is back" if before else "joins", server_round)
            self._journal.event(
                "joined", round=server_round, site=hello, num_train=facts.num_train, num_test=facts.num_test
            )
            self._journal.add_site(hello, facts.num_train, facts.num_test)
