"""A round that too few sites answered is repeated, until it has failed too often or would fail alike."""

from collections.abc import Callable

from common import wire
from common.config import Experiment
from server_app.aggregation.robust import models_needed, quorum_of
from server_app.rounds.round import Round
from server_app.run.checkpoint import checkpoint_rounds
from server_app.run.journal import Journal, log


class Retries:
    """The attempts at the round that goes on.

    Args:
        experiment: `quorum`, `round-retries`, and what an aggregation needs.
        journal: the run's.

    Attributes:
        failed: those that came to nothing.
    """

    def __init__(self, experiment: Experiment, journal: Journal) -> None:
        self._experiment, self._journal = experiment, journal
        self._models_needed = models_needed(experiment)
        self.failed: list[Round] = []

    def has_quorum(self, now: Round) -> bool:
        """Return whether enough replies of a round could be used, with enough models for a robust aggregation."""
        return len(now.answered) >= self._quorum(now) and len(now.steps) >= self._models_needed

    def _quorum(self, now: Round) -> int:
        return max(self._models_needed, quorum_of(self._experiment, len(now.asked)))

    def repeat_or_end(self, now: Round, sample: Callable[[], list[str]]) -> None:
        """Let a round pass without a change, or end the run if too many have; nothing that came is used.

        Args:
            now: the round.
            sample: returns whom the next attempt would ask.

        Raises:
            wire.WireError: the run ends.
        """
        before = list(self.failed)
        self.failed.append(now)
        told, needed, names = now.usable(self._models_needed), self._quorum(now), sorted(now.answered)
        self._journal.event("no-quorum", round=now.number, asked=now.asked, answered=len(names), sites=names)
        following = None if self._experiment.sites.partition == "deployed" else sample()
        alike = now.would_end_alike(before, following)
        if alike or len(self.failed) > self._experiment.rounds.round_retries:
            kept = checkpoint_rounds(self._journal.folder)
            todo = "it would diverge again" if alike else "fix what is wrong, and run again with resume=true"
            raise wire.WireError(
                f"{told}, {needed} are needed; the reasons are above. The run ends"
                f"{'; its checkpoint stays' if kept else ''}: {todo}{now.where_it_diverged(kept)}"
            )
        log.warning("%s, %d are needed: the round is repeated", told, needed)
