"""Learning rates: what `schedule` makes of one over the rounds of a run, and fine-tuning's own.

The coordinator sends a round's factor with each message, so that a site which missed rounds trains at the right rate.
"""

from common.config import Experiment
from common.methods import METHODS
from common.schedules import SCHEDULES


def round_factor(experiment: Experiment, server_round: int) -> float:
    """Return the factor of the learning rate in a round, from 0 to 1.

    In the r-th of w warm-up rounds it is r / (w + 1), and from then on as `schedule` says.

    Args:
        experiment: with the rounds of the whole run.
        server_round: from 1 to those.
    """
    train, warmup = experiment.train, experiment.train.warmup_rounds
    if server_round <= warmup:
        return server_round / (warmup + 1)
    return SCHEDULES[train.schedule](server_round - warmup - 1, experiment.rounds.rounds - warmup, train)


def finetune_rate(experiment: Experiment) -> float:
    """Return the learning rate of fine-tuning: by default that of training, or the most that the method's row allows.

    Example:
        >>> from common.config import build
        >>> finetune_rate(build({"method": "fedavg"})), finetune_rate(build({"method": "fedloge"}))
        (0.03, 0.003)
    """
    if (rate := experiment.personalise.finetune_learning_rate) is not None:
        return rate
    most = METHODS[experiment.method].finetune_rate
    return min(experiment.train.learning_rate, most or experiment.train.learning_rate)
