"""After the last round: every site makes its personal model of the final θ and ψ."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from common import wire
from common.config import Experiment
from server_app.aggregation.robust import quorum_size
from server_app.rounds.messages import Requests, metric_names
from server_app.rounds.personal_parts import PersonalPartsTracker
from server_app.rounds.progress import RoundProgress
from server_app.rounds.reply_filter import ReplyFilter
from server_app.rounds.round import Round
from server_app.run.journal import log
from server_app.run.metrics import site_metrics
from server_app.sites.discovery import SiteFacts
from server_app.sites.newcomers import Newcomers


@dataclass
class StageMetrics:
    """The metrics of a stage.

    Attributes:
        sites: site → metric → value.
        by_class: site → metric of each class [C], nan where there is none; of the sites that report them.
    """

    sites: dict[str, dict[str, float]] = field(default_factory=dict)
    by_class: dict[str, list[float]] = field(default_factory=dict)


Stages = dict[str, StageMetrics]


@dataclass(frozen=True)
class Personalisation:
    """Asks every site for its personal model's metrics; the model stays there.

    Attributes:
        experiment: the run.
        sites: every site by name.
        requests: builds the messages.
        reply_filter: of the run.
        personal_parts: records which round each site started from.
        newcomers: admits a site again that has reconnected as another node.
        progress: logs how many have answered.
        multilabel: whether an image may have several labels: sites then have other metrics.
        num_classes: C.
        sums: of which a site solves its personal head; {} for a method whose sites train.
    """

    experiment: Experiment
    sites: Mapping[str, SiteFacts]
    requests: Requests
    reply_filter: ReplyFilter
    personal_parts: PersonalPartsTracker
    newcomers: Newcomers
    progress: RoundProgress
    multilabel: bool
    num_classes: int
    sums: wire.Arrays

    def run(self, grid: Grid, arrays: ArrayRecord) -> Stages:
        """Return the metrics of each stage and site.

        Sites without a usable reply are asked again, `round-retries` times; above the quorum only those that failed.

        Args:
            grid: Flower's.
            arrays: the final model, as it is sent.

        Raises:
            wire.WireError: fewer sites than the quorum made a personal model.
        """
        everyone, deployed = sorted(self.sites), self.experiment.sites.partition == "deployed"
        stages: Stages = {stage: StageMetrics() for stage in wire.STAGES}
        needed, made, missing = quorum_size(self.experiment, len(everyone)), set[str](), everyone
        diverged, given_up = set[str](), set[str]()
        for attempt in range(self.experiment.rounds.round_retries + 1):
            if attempt:
                log.warning("personal models: asking again %s", ", ".join(missing))
                if deployed:  # one may be back as another node
                    self.newcomers.admit_newcomers(grid, self.experiment.rounds.rounds + 1)
            now = self._ask(grid, arrays, missing, stages)
            made |= set(now.answered)
            # a simulated site that diverges will do so again; a real one is given up after diverging twice
            given_up |= now.diverged & diverged if deployed else now.diverged
            diverged |= now.diverged
            # once the quorum is reached, silent sites are not waited for again
            missing = sorted((now.responded if len(made) >= needed else set(everyone)) - made - given_up)
            if not missing or len(everyone) - len(given_up) < needed:
                break
        if len(made) < needed:
            raise wire.WireError(_too_few(len(made), len(everyone), given_up))
        return stages

    def _ask(self, grid: Grid, arrays: ArrayRecord, names: list[str], stages: Stages) -> Round:
        """Ask these sites once, and add the metrics of those whose replies can be used."""
        timeout = self.experiment.rounds.round_timeout
        metrics = metric_names(wire.STAGES, multilabel=self.multilabel)
        now = Round(self.experiment.rounds.rounds + 1, names, metrics, self.num_classes)
        self.progress.begin(now)
        messages = self.requests.messages(wire.PERSONALISE, now, arrays, evaluate=True, sums=self.sums)
        replies = grid.send_and_receive(messages, timeout=timeout)
        with self.reply_filter.usable(replies, now, None) as usable:
            for incoming in usable:
                site, reply = incoming.site, incoming.reply
                now.answered.append(site)
                self.personal_parts.record(site, reply)
                for stage, found in stages.items():
                    if measured := site_metrics(reply.metrics, stage, incoming.facts.num_test):
                        found.sites[site] = measured
                        if stage in reply.class_metrics:
                            found.by_class[site] = reply.class_metrics[stage].tolist()
        self.reply_filter.reject_silent(now, timeout)
        return now


def _too_few(made: int, sites: int, given_up: set[str]) -> str:
    why = f"personal models: {made} of {sites} sites have made one; the reasons are above"
    todo = "fix what is wrong, and run again with resume=true"
    if given_up:
        todo = f"training diverged at {', '.join(sorted(given_up))}, and would again: in a new run a smaller "
        todo += "learning-rate or finetune-learning-rate may help"
    return f"{why}. The checkpoint stays: {todo}"
