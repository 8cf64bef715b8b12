"""The rounds, as a Flower `Strategy`: sample sites, send θ and ψ, aggregate the replies (Algorithm 1, server)."""

from collections.abc import Callable, Collection, Iterable

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from common import wire
from common.config import Experiment
from common.files import arrays_digest
from common.methods import METHODS
from common.packing import unpacked
from common.rates import round_factor
from server_app.aggregation.mean import RunningMean, not_finite
from server_app.aggregation.robust import make_aggregator, min_models
from server_app.aggregation.server_optimiser import ServerOptimiser
from server_app.generic.evaluation import GenericEvaluation
from server_app.methods import ServerMethod
from server_app.rounds.cooldown import Cooldown
from server_app.rounds.messages import Requests, as_broadcast, metric_names
from server_app.rounds.personal_parts import PersonalPartsTracker
from server_app.rounds.personalise import Personalisation
from server_app.rounds.progress import RoundProgress, WaitingGrid
from server_app.rounds.reply_checks import Broadcast, Incoming
from server_app.rounds.reply_filter import ReplyFilter
from server_app.rounds.retries import Retries
from server_app.rounds.round import Round
from server_app.rounds.round_logger import RoundLogger
from server_app.rounds.sampling import sample_sites
from server_app.run.checkpoint import Checkpoint, save_checkpoint
from server_app.run.journal import Journal, log
from server_app.run.metrics import generic_facts, primary, site_metrics
from server_app.sites.discovery import SiteFacts
from server_app.sites.newcomers import Newcomers


class FedStrategy(Strategy):
    """Federated rounds of any method in `common/methods`.

    Args:
        experiment: the run.
        sites: every site by name; the sampling order is the sorted names.
        journal: the run's folder.
        frame: fixed classifier [C, d] or None.
        evaluation: the generic model on the coordinator's test set.
        method: the coordinator's half of the method.
        done: rounds of the run that are finished.
        multilabel: whether an image may have several labels: sites then have other metrics.
        trained: names of the model's parameters, which a server optimiser steps.
        fixed: what of the backbone stands still: it is sent once.
        head: what the sites' own heads start from, see `head_start.py`: it is sent with that.

    Attributes:
        finished: the last round that is finished.
        cooldown: a part of the checkpoint.
        personal_parts: likewise.
        optimiser: likewise.
    """

    def __init__(
        self,
        experiment: Experiment,
        sites: dict[str, SiteFacts],
        journal: Journal,
        frame: npt.NDArray[np.float32] | None,
        evaluation: GenericEvaluation,
        method: ServerMethod,
        done: int = 0,
        *,
        multilabel: bool = False,
        trained: Collection[str] = (),
        fixed: wire.Arrays | None = None,
        head: wire.Arrays | None = None,
    ) -> None:
        self.experiment, self.sites, self.journal, self.evaluation = experiment, sites, journal, evaluation
        self._row, self._method, self._multilabel = METHODS[experiment.method], method, multilabel
        self._deployed = experiment.sites.partition == "deployed"  # else sites are simulated, and all there
        self._progress, self._newcomers = RoundProgress(experiment.rounds.rounds), Newcomers(experiment, sites, journal)
        self._reply_filter = ReplyFilter(sites, journal, self._progress)
        self._round_logger = RoundLogger(experiment.rounds.rounds, sites, journal, done)
        self.cooldown, self.personal_parts = Cooldown(experiment, journal), PersonalPartsTracker(journal)
        self.optimiser = ServerOptimiser(experiment, trained)
        self._fixed = fixed or {}
        once = self._fixed | (head or {})
        self._requests = Requests(experiment, sites, journal, frame, once, self.personal_parts, method)
        self._broadcast: wire.Arrays = {}
        self._round, self._retries = Round(0, []), Retries(experiment, journal)
        self.finished = done

    def summary(self) -> None:
        """Log nothing: the app logs the experiment itself."""

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the rounds that are not finished, and return the final global model (Algorithm 1, server).

        Flower's own loop counts from 1 at each start, and skips a round that failed; this one goes on
        after the last finished round, and repeats such a round. Metrics are in the journal, not in the result.

        Args:
            grid: Flower's.
            initial_arrays: the model after the last finished round.
            num_rounds: of the whole run, those that are finished included.
            timeout: seconds that a round waits for replies.
            train_config: handed to `configure_train`, which needs none.
            evaluate_config: not used, sites evaluate what arrives.
            evaluate_fn: in place of `evaluate_generic`; what it returns is not kept.

        Raises:
            wire.WireError: too few sites answer.
        """
        evaluate, config = evaluate_fn or self.evaluate_generic, train_config or ConfigRecord()
        if isinstance(grid, WaitingGrid):
            grid.on_wait = self._progress.log_if_due
        result = Result(initial_arrays)
        evaluate(self.finished, result.arrays)
        while self.finished < num_rounds:
            server_round = self.finished + 1
            messages = self.configure_train(server_round, result.arrays, config, grid)  # sample sites
            replies = grid.send_and_receive(messages, timeout=timeout)  # send θ and ψ
            arrays, _ = self.aggregate_train(server_round, replies)  # check each reply, and take the mean
            if arrays is None:
                continue  # no quorum: the round is repeated
            result.arrays = arrays
            self._finish(server_round, arrays)  # checkpoint
            evaluate(server_round, arrays)
            self._round_logger.log(self._round)
        return result

    # --- sample and send --------------------------------------------------------------------------------

    def sample(self, server_round: int) -> list[str]:
        """Return the sites of a round, see `sample_sites`."""
        needed, failed = min_models(self.experiment), len(self._retries.failed)
        return sample_sites(self.experiment, self.sites, self.cooldown, needed, server_round, failed)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send θ and ψ to the round's sites, with the frame where it is not yet known."""
        exact = {name: array.numpy() for name, array in arrays.items() if self._row.is_coordinator_part(name)}
        self.optimiser.begin(arrays)
        arrays, received = as_broadcast(arrays, self.experiment)
        self._broadcast = received | exact
        if self._deployed:
            self._newcomers.admit_newcomers(grid, server_round)
        self._method.begin()
        evaluate = self._is_evaluated(server_round - 1)  # sites evaluate the model of the previous round
        metrics = metric_names(("arrival",) if evaluate else (), multilabel=self._multilabel)
        rate = round_factor(self.experiment, server_round)
        self._round = Round(server_round, self.sample(server_round), metrics, rate=rate)
        self._progress.begin(self._round)
        return self._requests.messages(wire.TRAIN, self._round, arrays, evaluate=evaluate)

    # --- check and add up -------------------------------------------------------------------------------

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check each reply, add it to the running mean, and return the mean as the new global model.

        Raises:
            wire.WireError: the round failed, and is not to be repeated.
        """
        now = self._round
        mean = make_aggregator(
            {n: a for n, a in self._broadcast.items() if not self._row.is_coordinator_part(n)}, self.experiment
        )
        broadcast = Broadcast(self.experiment, self._broadcast, mean, self._method)
        with self._reply_filter.usable(replies, now, broadcast) as usable:
            for incoming in usable:
                self._add_reply(incoming, mean)
        self._reply_filter.reject_silent(now, self.experiment.rounds.round_timeout)
        self.cooldown.record(now)
        arrays = self._aggregated(server_round, mean) if self._retries.has_quorum(now) else None
        if arrays is None:
            self._retries.repeat_or_end(now, lambda: self.sample(server_round))
            return None, None
        now.model = arrays_digest(arrays)
        self._record_round()
        return wire.pack(arrays), None

    def _add_reply(self, incoming: Incoming, mean: RunningMean) -> None:
        """Add a reply that has passed all checks."""
        now, site, reply, facts = self._round, incoming.site, incoming.reply, incoming.facts
        weight = min(facts.images, self.experiment.rounds.max_site_images or facts.images)
        if facts.images:
            mean.add_checked(reply.model, weight, incoming.step)
            now.steps[site] = incoming.step
            self._method.add_extras(site, reply.extras)
        now.count(site, reply, facts.images, weight)
        self.personal_parts.record(site, reply)
        facts.has_frame = reply.frame_hash == self._requests.frame_hash
        if metrics := site_metrics(reply.metrics, "arrival", facts.num_test):
            now.arrival[site] = metrics

    def _aggregated(self, server_round: int, mean: RunningMean) -> wire.Arrays | None:
        """Return the new global model, with the method's own parts; None if it is not finite."""
        kept = self._method.state(), self.optimiser.state()
        arrays = mean.mean()
        if mean.weight:  # else no site has trained, and there is no step
            arrays = self.optimiser.step(self._broadcast, arrays)
        parts, facts = self._method.finish(self._broadcast, self._fixed | arrays, server_round)
        arrays |= parts
        if odd := sorted(n for of in (arrays, self._method.state(), self.optimiser.state()) for n in not_finite(of)):
            self._method.restore(kept[0])
            self.optimiser.restore(kept[1])
            log.warning("round %d: %s would not be finite", server_round, ", ".join(odd[:3]))
            self._round.mean_diverged = True  # not one reply, but all together
            return None
        if facts:
            self.journal.event("method", round=server_round, **facts)
        return arrays

    def _record_round(self) -> None:
        self._round_logger.record(self._round)

    # --- keep and evaluate ------------------------------------------------------------------------------

    def _finish(self, server_round: int, arrays: ArrayRecord) -> None:
        """Take a round as finished, and write a checkpoint where one is due."""
        self.finished, self._retries.failed = server_round, []
        self.personal_parts.accept(server_round)
        if server_round % self.experiment.run.checkpoint_every == 0 or server_round == self.experiment.rounds.rounds:
            model = {name: unpacked(array) for name, array in arrays.items()}
            states = (self.cooldown.state(), self.personal_parts.state(), self.optimiser.state())
            checkpoint = Checkpoint(server_round, model, self._method.state(), *states, self.journal.identity)
            self.journal.sync()
            save_checkpoint(self.journal.folder, checkpoint, self.experiment.run.checkpoints_kept)

    def evaluate_generic(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Evaluate the generic model with each head it has, where the round asks for it."""
        if self._is_evaluated(server_round):
            reports = self.evaluation(as_broadcast(arrays, self.experiment)[1])
            stage = "final" if server_round == self.experiment.rounds.rounds else "training"
            for head, report in reports.items():
                facts = generic_facts(report, final=stage == "final")
                self.journal.event("generic", round=server_round, stage=stage, head=head, **facts)
            reported = reports.get(self._row.reported_head or "")
            self._round_logger.generic = primary(reported) if reported else None
        return None

    def _is_evaluated(self, server_round: int) -> bool:
        return (
            server_round % self.experiment.rounds.evaluate_every == 0 or server_round == self.experiment.rounds.rounds
        )

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask no site: a train message evaluates what arrives, without a second download."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing was asked."""
        return None

    # --- after the last round ---------------------------------------------------------------------------

    def personalise(self, grid: Grid, arrays: ArrayRecord) -> None:
        """Have every site build its personal model from the final θ and ψ, and record its metrics.

        Raises:
            wire.WireError: fewer sites than the quorum made a personal model.
        """
        personalisation = Personalisation(
            *(self.experiment, self.sites, self._requests, self._reply_filter),
            *(self.personal_parts, self._newcomers, self._progress, self._multilabel),
            *(len(self.evaluation.dataset.classes), self._method.personal_sums()),
        )
        for stage, found in personalisation.run(grid, arrays).items():
            if found.sites:
                rounds = self.experiment.rounds.rounds
                self._round_logger.record_personal(stage, found.sites, rounds, found.by_class)
