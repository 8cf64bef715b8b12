"""Real sites that connect while a run goes on: a late one joins, one that was set up anew takes its place again."""

from collections import Counter
from collections.abc import Collection, Mapping

from flwr.serverapp import Grid

from common.config import Experiment
from common.names import lookalike, rename_hint
from server_app.run.journal import Journal, log
from server_app.sites.discovery import SiteFacts, identify_nodes, reject_node

_PATIENCE = 60.0  # seconds that a round's start may wait for newcomers
_MAX_ATTEMPTS = 3  # consecutive rounds in which a failing or rejected node is asked again
_RETRY_EVERY = 10  # afterwards in every tenth round, in case it was fixed


def reconcile_sites(journal: Journal, sites: dict[str, SiteFacts], server_round: int) -> list[str]:
    """Compare image counts with those first declared; on a mismatch the smaller one is the aggregation weight.

    Counts may change between two starts; a site must not raise its own weight that way. A site whose name merely
    looks like that of an earlier participant is removed from `sites`.

    Returns:
        The sites that have taken part in the run, and are not among these.
    """
    for name in [name for name in sites if lookalike_reason(name, journal.site_names())]:
        reject_node(sites.pop(name).node_id, lookalike_reason(name, journal.site_names()), journal)
    now = {name: {"num_train": facts.num_train, "num_test": facts.num_test} for name, facts in sites.items()}
    first = journal.add_sites(now)
    for name, facts in sorted(sites.items()):
        if (before := first.get(name, now[name])) == now[name]:
            continue
        facts.aggregation_weight = min(before["num_train"], facts.num_train)
        log.warning(
            "%s has %d training and %d test images, and had %d and %d when it first took part: it counts for %d",
            name, facts.num_train, facts.num_test, before["num_train"], before["num_test"], facts.aggregation_weight,
        )  # fmt: skip
        facts_now = {"before": before, "now": now[name], "counts_for": facts.aggregation_weight}
        journal.event("recounted", round=server_round, site=name, **facts_now)
    return sorted(first.keys() - sites.keys())


def leave_out_withdrawn(sites: Mapping[str, SiteFacts], journal: Journal) -> dict[str, SiteFacts]:
    """Return the sites without those whose part was taken out of this run, which are named in the log."""
    left_out = sorted(sites.keys() & journal.withdrawn())
    if left_out:
        log.warning("withdrawn from this run, and left out: %s", ", ".join(left_out))
    return {name: facts for name, facts in sites.items() if name not in left_out}


def lookalike_reason(name: str, known: Collection[str]) -> str:
    """Return why a name that only looks like a known one cannot take part; '' for all others."""
    if name in known or not (other := lookalike(name, known)):
        return ""
    return f"'{name}' looks like '{other}', which takes part: {rename_hint(name, other)}"


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

    def admit_newcomers(self, grid: Grid, server_round: int) -> None:
        """Identify unknown nodes, and admit the valid ones."""
        connected = set(grid.get_node_ids())
        known = {facts.node_id for facts in self._sites.values()}
        self._tries = {node: tries for node, tries in self._tries.items() if node in connected}
        often = server_round % _RETRY_EVERY == 0
        new = sorted(node for node in connected - known if often or self._tries.get(node, 0) < _MAX_ATTEMPTS)
        if not new:
            return
        for node in new:
            self._tries[node] = self._tries.get(node, 0) + 1
        patience = min(_PATIENCE, self._experiment.rounds.round_timeout)
        arrived = list(identify_nodes(grid, self._experiment, new, patience, journal=self._journal))
        taken = Counter(hello for hello, _ in arrived)
        for hello, facts in arrived:
            before = self._sites.get(hello)
            if (before and before.node_id in connected) or taken[hello] > 1:
                reject_node(facts.node_id, f"another site calls itself '{hello}', too", self._journal)
                continue
            if hello in self._journal.withdrawn():
                reject_node(facts.node_id, f"'{hello}' was withdrawn from this run", self._journal)
                continue
            if why := lookalike_reason(hello, [*self._sites, *self._journal.site_names()]):
                reject_node(facts.node_id, why, self._journal)
                continue
            reconcile_sites(self._journal, {hello: facts}, server_round)
            self._sites[hello] = facts
            log.info("%s is back in round %d" if before else "%s joins in round %d", hello, server_round)
            self._journal.event(
                "joined", round=server_round, site=hello, num_train=facts.num_train, num_test=facts.num_test
            )
