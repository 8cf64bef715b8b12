"""Records rounds in the journal and on the console."""

import time
from collections.abc import Mapping
from typing import Any

from common.metrics import spread
from server_app.rounds.round import Round
from server_app.run.journal import Journal, RemainingTime, log, percent
from server_app.run.metrics import site_means
from server_app.sites.discovery import SiteFacts

SiteMetrics = Mapping[str, dict[str, float]]  # site → metric → value, the primary metric first


class RoundLogger:
    """Journals and logs rounds.

    Args:
        rounds: of the run.
        sites: every site by name.
        journal: the run's.
        done: rounds finished before this start.

    Attributes:
        generic: the last primary metric of the generic model, for the log.
    """

    def __init__(self, rounds: int, sites: Mapping[str, SiteFacts], journal: Journal, done: int) -> None:
        self._rounds, self._sites, self._journal = rounds, sites, journal
        self._clock = RemainingTime(rounds, done)
        self.generic: float | None = None
        self._personal: tuple[float, int] | None = None

    def record(self, now: Round) -> None:
        """Journal a round that is over."""
        if now.arrival:
            overall = self.record_personal("arrival", now.arrival, now.number)
            self._personal = overall["mean"], now.number - 1
        self._journal.event(
            "round",
            round=now.number,
            asked=len(now.asked),
            answered=len(now.answered),
            images=now.images,
            weights=now.weights,
            steps=now.steps,
            model=now.model,
            rate=now.rate,
            loss=now.mean_losses(),
            seconds=round(time.monotonic() - now.started, 3),
            bytes_down=now.bytes_down,
            bytes_up=now.bytes_up,
        )

    def record_personal(
        self, stage: str, metrics: SiteMetrics, server_round: int, by_class: Mapping[str, list[float]] | None = None
    ) -> dict[str, Any]:
        """Journal the sites' metrics of a stage: means over sites, and the spread and worst site of the primary one.

        `by_class`, site → metric of each class [C], is of the sites that report it.
        """
        primary = next(iter(next(iter(metrics.values()))))
        overall = spread({name: site[primary] for name, site in sorted(metrics.items())}).as_json()
        sites = {name: {**site, "num_test": self._sites[name].num_test} for name, site in sorted(metrics.items())}
        facts = {"means": site_means(metrics), "sites": sites}
        if by_class:
            facts["per_class"] = dict(sorted(by_class.items()))
        self._journal.event("personal", round=server_round, stage=stage, figure=primary, **overall, **facts)
        return overall

    def log(self, now: Round) -> None:
        """Log a round in one line."""
        rounds = self._rounds
        symbols = {"backbone": "θ", "aux_head": "ψ", "personal_head": "φ"}
        losses = " ".join(f"{symbols.get(n, n)} {mean:.3f}" for n, mean in now.mean_losses().items()) or "–"
        personal = "–"
        if self._personal:
            personal = f"{percent(self._personal[0])} (round {self._personal[1]})"
        log.info(
            "round %*d/%d | %d of %d sites | loss %s | generic %s | personal %s | %.1f s, about %s left",
            len(str(rounds)), now.number, rounds, len(now.answered), len(now.asked), losses,
            percent(self.generic), personal, time.monotonic() - now.started, self._clock.left(now.number),
        )  # fmt: skip
