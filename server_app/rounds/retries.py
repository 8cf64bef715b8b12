"""Repeats a round that too few sites answered, until it has failed too often or would fail the same way again."""

from collections.abc import Callable

from common import wire
from common.config import Experiment
from server_app.aggregation.robust import min_models, quorum_size
from server_app.rounds.round import Round
from server_app.run.checkpoint import checkpoint_rounds
from server_app.run.journal import Journal, log


class Retries:
    """Counts the failed attempts at the current round.

    Args:
        experiment: `quorum`, `round-retries`, and what an aggregation needs.
        journal: the run's.

    Attributes:
        failed: those attempts.
    """

    def __init__(self, experiment: Experiment, journal: Journal) -> None:
        self._experiment, self._journal = experiment, journal
        self._min_models = min_models(experiment)
        self.failed: list[Round] = []

    def has_quorum(self, now: Round) -> bool:
        """Return whether enough replies of a round could be used, with enough models for a robust aggregation."""
        return len(now.answered) >= self._quorum(now) and len(now.steps) >= self._min_models

    def _quorum(self, now: Round) -> int:
        return max(self._min_models, quorum_size(self._experiment, len(now.asked)))

    def repeat_or_end(self, now: Round, sample: Callable[[], list[str]]) -> None:
        """Discard a round without changing the model; end the run after too many attempts.

        Args:
            now: the round.
            sample: returns the sites of the next attempt.

        Raises:
            wire.WireError: the run ends.
        """
        before = list(self.failed)
        self.failed.append(now)
        summary, needed, names = now.usable(self._min_models), self._quorum(now), sorted(now.answered)
        self._journal.event("no-quorum", round=now.number, asked=now.asked, answered=len(names), sites=names)
        following = None if self._experiment.sites.partition == "deployed" else sample()
        repeats = now.would_repeat(before, following)
        if repeats or len(self.failed) > self._experiment.rounds.round_retries:
            kept = checkpoint_rounds(self._journal.folder)
            todo = "it would diverge again" if repeats else "fix what is wrong, and run again with resume=true"
            raise wire.WireError(
                f"{summary}, {needed} are needed; the reasons are above. The run ends"
                f"{'; its checkpoint stays' if kept else ''}: {todo}{now.divergence_advice(kept)}"
            )
        log.warning("%s, %d are needed: the round is repeated", summary, needed)
