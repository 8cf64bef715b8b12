"""Which replies of a round are used: those that pass all of `reply_checks.CHECKS`."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager

from flwr.app import Message

from common.errors import one_line
from server_app.aggregation.values import DivergedError
from server_app.rounds.progress import RoundProgress
from server_app.rounds.reply_checks import Broadcast, Incoming, first_refusal
from server_app.rounds.round import Round
from server_app.run.journal import Journal, log
from server_app.sites.discovery import SiteFacts


class ReplyFilter:
    """Yields the replies that pass all `CHECKS`, and rejects the others.

    Args:
        sites: every site by name.
        journal: the run's.
        progress: logs how many sites have answered.
    """

    def __init__(self, sites: Mapping[str, SiteFacts], journal: Journal, progress: RoundProgress) -> None:
        self._sites, self._journal, self._progress = sites, journal, progress

    @contextmanager
    def usable(
        self, messages: Iterable[Message], now: Round, broadcast: Broadcast | None
    ) -> Iterator[Iterator[Incoming]]:
        """Yield the usable replies of a round one by one; `broadcast` is None where no update comes with them.

        When the block ends, so do the messages: a site that still works in this process is waited for.
        """
        try:
            yield self._usable(messages, now, broadcast)
        finally:
            if isinstance(messages, Generator):
                messages.close()

    def _usable(self, messages: Iterable[Message], now: Round, broadcast: Broadcast | None) -> Iterator[Incoming]:
        names = {facts.node_id: name for name, facts in self._sites.items()}
        for message in messages:
            node_id = message.metadata.src_node_id
            site = names.get(node_id, f"node {node_id}")
            facts = self._sites.get(site, SiteFacts(node_id, 0, 0))
            incoming = Incoming(message, site, facts, now, broadcast)
            refusal = first_refusal(incoming)
            self._progress.log_if_due()
            if refusal:
                self.reject(now, site, refusal)
            else:
                yield incoming

    def reject(self, now: Round, site: str, reason: Exception | str) -> None:
        """Reject a site's reply, and record why."""
        why = one_line(str(reason), 300)
        if isinstance(reason, DivergedError) or "training diverged" in why:  # the site reported it itself
            now.diverged.add(site)
        if site in self._sites:
            self._sites[site].has_frame = False  # its cache may be lost: send the frame again
        log.warning("round %d: %s left out: %s", now.number, site, why)
        self._journal.event("rejected", round=now.number, site=site, reason=why)

    def reject_silent(self, now: Round, timeout: float) -> None:
        """Reject the sites that were asked and did not answer within `timeout` seconds."""
        for site in sorted(set(now.asked) - now.responded):
            self.reject(now, site, f"no answer within {timeout:g} s")
