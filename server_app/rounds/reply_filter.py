"""Which of a round's replies can be used; the others are named, with their reason, in the log and in the journal."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager

from flwr.app import Message

from common import wire
from common.errors import plain
from server_app.rounds.progress import RoundProgress
from server_app.rounds.round import Round
from server_app.run.journal import Journal, log
from server_app.sites.discovery import BadReplyError, DivergedError, SiteFacts, check_reply


class Gate:
    """Lets through what can be used.

    Args:
        sites: every site by name.
        journal: the run's.
        progress: looks on as replies come.
    """

    def __init__(self, sites: Mapping[str, SiteFacts], journal: Journal, progress: RoundProgress) -> None:
        self._sites, self._journal, self._progress = sites, journal, progress

    @contextmanager
    def usable(
        self, messages: Iterable[Message], now: Round, *, trains: bool
    ) -> Iterator[Iterator[tuple[str, wire.Reply]]]:
        """Give a round's replies that can be used, one at a time, with their site's name.

        Whatever ends the round, the messages end with it: a site that works ahead in this process is waited for.
        """
        try:
            yield self._usable(messages, now, trains)
        finally:
            if isinstance(messages, Generator):
                messages.close()

    def _usable(self, messages: Iterable[Message], now: Round, trains: bool) -> Iterator[tuple[str, wire.Reply]]:
        names = {facts.node_id: name for name, facts in self._sites.items()}
        for message in messages:
            node_id = message.metadata.src_node_id
            site = names.get(node_id, f"node {node_id}")
            try:
                if site not in now.asked:
                    raise BadReplyError("was not asked in this round")
                if site in now.heard:
                    raise BadReplyError("has answered before in this round")
                now.heard.add(site)
                self._progress.look()
                reply = wire.Reply(message)
                if reply.round != now.number:
                    raise BadReplyError(f"its reply belongs to round {reply.round:g}")
                check_reply(reply, self._sites[site], now.figures, trains=trains)
            except wire.WireError as error:
                self.reject(now, site, error)
            else:
                yield site, reply

    def reject(self, now: Round, site: str, reason: Exception | str) -> None:
        """Leave a site's reply out of a round."""
        why = plain(str(reason), 300)
        if isinstance(reason, DivergedError) or "training diverged" in why:  # it said so itself
            now.diverged.add(site)
        if site in self._sites:
            self._sites[site].has_frame = False  # it may have lost its cache: the next message brings the frame again
        log.warning("round %d: %s left out: %s", now.number, site, why)
        self._journal.event("rejected", round=now.number, site=site, reason=why)

    def name_the_silent(self, now: Round, timeout: float) -> None:
        """Reject the sites that were asked and have said nothing within `timeout` seconds."""
        for site in sorted(set(now.asked) - now.heard):
            self.reject(now, site, f"no answer within {timeout:g} s")
