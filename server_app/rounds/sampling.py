"""Which sites a round asks."""

from collections.abc import Mapping

from common.config import Experiment
from common.seeds import numpy_generator
from server_app.rounds.cooldown import Cooldown
from server_app.sites.discovery import SiteFacts


def sample_sites(
    experiment: Experiment,
    sites: Mapping[str, SiteFacts],
    cooldown: Cooldown,
    needed: int,
    server_round: int,
    failed: int,
) -> list[str]:
    """Return the sites of a round: round(rate · K) of the sorted names, from the run's own generator.

    Args:
        experiment: its participation and seed.
        sites: all that take part.
        cooldown: which of them are not asked now.
        needed: models that a robust aggregation needs; 0 for a mean.
        server_round: the round.
        failed: number of failed attempts at it: a repeated round samples other sites.
    """
    training_sites = {name for name, facts in sites.items() if facts.images}
    names = cooldown.eligible(sorted(sites), server_round, training_sites)
    count = max(1, needed, round(experiment.rounds.participation * len(names)))
    if count >= len(names):
        return names
    names = [name for name in names if name in training_sites] if needed else names
    again = f" {failed}" if failed else ""
    generator = numpy_generator(experiment.run.seed, f"sample{again}", server_round=server_round)
    return sorted(generator.choice(names, size=min(count, len(names)), replace=False).tolist())
