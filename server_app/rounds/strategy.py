"""The rounds, as a Flower `Strategy`: sample sites, send θ and ψ, add up what returns (Algorithm 1, server)."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from common import wire
from common.config import Experiment
from common.files import arrays_digest
from common.methods import METHODS
from common.models.model import last_step_needs_frame
from common.precision import received, sent
from server_app.aggregation.mean import RunningMean, not_finite
from server_app.aggregation.robust import aggregation_of, models_needed, quorum_of
from server_app.generic.evaluation import GenericEvaluation
from server_app.grids.local_grid import LocalGrid
from server_app.grids.streaming import StreamingGrid
from server_app.methods import ServerMethod
from server_app.rounds.cooldown import Resting
from server_app.rounds.personal_parts import PersonalParts
from server_app.rounds.progress import RoundProgress
from server_app.rounds.reply_filter import Gate
from server_app.rounds.round import Round, Teller
from server_app.rounds.sampling import sample_sites
from server_app.run.checkpoint import Checkpoint, checkpoint_rounds, save_checkpoint
from server_app.run.journal import Journal, log
from server_app.run.metrics import generic_facts, primary, site_figures
from server_app.sites.discovery import BadReplyError, SiteFacts, figure_names
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
        done: rounds of the run that are finished: Flower counts from 1 also where a run is taken up again.
        multilabel: whether an image may have several labels: sites then have other figures.
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
    ) -> None:
        self.experiment, self.sites, self.journal, self.evaluation = experiment, sites, journal, evaluation
        self._row, self._method, self._multilabel = METHODS[experiment.method], method, multilabel
        self._deployed = experiment.sites.partition == "deployed"  # else sites are simulated, and all there
        self._progress, self._newcomers = RoundProgress(experiment.rounds.rounds), Newcomers(experiment, sites, journal)
        self._gate = Gate(sites, journal, self._progress)
        self.resting, self.personal_parts = Resting(experiment, journal), PersonalParts(journal)
        self._needed = models_needed(experiment)
        self._frame, self._frame_hash = frame, "" if frame is None else wire.frame_digest(frame)
        self._sent: wire.Arrays = {}
        self._begin(Round(0, []))
        self._done, self.finished, self._evaluated, self._failed = done, done, -1, list[Round]()
        self._teller = Teller(experiment.rounds.rounds, sites, journal, done)

    def summary(self) -> None:
        """Say nothing: the app logs the experiment itself."""

    def train(self, grid: Grid, arrays: ArrayRecord) -> ArrayRecord:
        """Run the rounds that are not finished, and return the final global model.

        Flower counts every start from 1, and a round that is repeated counts there too: hence the loop.

        Raises:
            wire.WireError: too few sites answer.
        """
        rounds = self.experiment.rounds.rounds
        if isinstance(grid, StreamingGrid | LocalGrid):
            grid.waiting = self._progress.look
        while True:
            self._done = self.finished
            result = self.start(
                grid,
                arrays,
                num_rounds=rounds - self.finished,
                timeout=self.experiment.rounds.round_timeout,
                evaluate_fn=self.evaluate_generic,
            )
            arrays = result.arrays if len(result.arrays) else arrays
            if self.finished >= rounds:
                return arrays

    def sample(self, server_round: int) -> list[str]:
        """Return the sites of a round, see `sample_sites`."""
        failed = len(self._failed)
        return sample_sites(self.experiment, self.sites, self.resting, self._needed, server_round, failed)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send θ and ψ to the round's sites, with the frame where it is not yet known."""
        server_round += self._done
        exact = {name: array.numpy() for name, array in arrays.items() if self._row.sends_only(name)}
        arrays, as_sent = self.as_sent(arrays)
        self._sent = as_sent | exact
        if self._deployed:
            self._newcomers.welcome(grid, server_round)
        self._method.begin()
        evaluate = self._is_evaluated(server_round - 1)  # what arrives is what the round before produced
        figures = figure_names(("arrival",) if evaluate else (), multilabel=self._multilabel)
        self._begin(Round(server_round, self.sample(server_round), figures))
        return (self._message(wire.TRAIN, name, arrays, evaluate) for name in self._round.asked)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check each reply, add it to the running mean, and return the mean as the new global model."""
        server_round += self._done
        mean = aggregation_of({n: a for n, a in self._sent.items() if not self._row.sends_only(n)}, self.experiment)
        with self._gate.usable(replies, self._round, trains=True) as usable:
            for site, reply in usable:
                try:
                    self._take(site, reply, mean)
                except wire.WireError as error:
                    self._gate.reject(self._round, site, error)
        self._gate.name_the_silent(self._round, self.experiment.rounds.round_timeout)
        self.resting.note(self._round)
        if len(self._round.answered) < self._quorum() or len(self._round.steps) < self._needed:
            return self._without_quorum(server_round)
        arrays, kept = mean.mean(), self._method.state()
        parts, facts = self._method.finish(self._sent, arrays, server_round)
        arrays |= parts
        if odd := sorted(not_finite(arrays) + not_finite(self._method.state())):
            self._method.restore(kept)
            log.warning("round %d: %s would not be finite", server_round, ", ".join(odd[:3]))
            self._round.sum_diverged = True  # not one reply, but all together
            return self._without_quorum(server_round)
        if facts:
            self.journal.event("method", round=server_round, **facts)
        self._round.model = arrays_digest(arrays)
        self._record_round()
        self.finished, self._failed = server_round, []
        self.personal_parts.accept(server_round)
        if server_round % self.experiment.run.checkpoint_every == 0 or server_round == self.experiment.rounds.rounds:
            states = self._method.state(), self.resting.state(), self.personal_parts.state()
            checkpoint = Checkpoint(server_round, arrays, *states, self.journal.identity)
            self.journal.sync()
            save_checkpoint(self.journal.folder, checkpoint, self.experiment.run.checkpoints_kept)
        return wire.pack(arrays), None

    def _begin(self, now: Round) -> None:
        self._round = now
        self._progress.begin(now)
        self._secured = checkpoint_rounds(self.journal.folder) or [0]  # sites may forget what lies between

    def _quorum(self) -> int:
        return max(self._needed, quorum_of(self.experiment, len(self._round.asked)))

    def _without_quorum(self, server_round: int) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let the round pass without a change, or end the run if too many have; nothing that came is used."""
        now, before = self._round, list(self._failed)
        self._failed.append(now)
        told, names = now.usable(self._needed), sorted(now.answered)
        self.journal.event("no-quorum", round=server_round, asked=now.asked, answered=len(names), sites=names)
        following = None if self._deployed else self.sample(server_round)
        alike = now.would_end_alike(before, following)
        if alike or len(self._failed) > self.experiment.rounds.round_retries:
            kept = checkpoint_rounds(self.journal.folder)
            todo = "it would diverge again" if alike else "fix what is wrong, and run again with resume=true"
            raise wire.WireError(
                f"{told}, {self._quorum()} are needed; the reasons are above. The run ends"
                f"{'; its checkpoint stays' if kept else ''}: {todo}{now.where_it_diverged(kept)}"
            )
        log.warning("%s, %d are needed: the round is repeated", told, self._quorum())
        self._done -= 1  # Flower goes on counting
        return None, None

    def _take(self, site: str, reply: wire.Reply, mean: RunningMean) -> None:
        now, facts, images = self._round, self.sites[site], self.sites[site].images
        weight = min(images, self.experiment.rounds.max_site_images or images)
        if images:
            self._method.check(reply.extras, self._sent, facts.num_train)
            now.steps[site] = mean.add(self._received(reply), weight)
            self._method.take(site, reply.extras)
        now.count(site, reply, images, weight)
        self.personal_parts.note(site, reply)
        facts.has_frame = reply.frame_hash == self._frame_hash
        if figures := site_figures(reply.metrics, "arrival", facts.num_test):
            now.arrival[site] = figures

    def as_sent(self, arrays: ArrayRecord) -> tuple[ArrayRecord, wire.Arrays]:
        """Return a model as it crosses, and as the sites then have it."""
        model = {name: array.numpy() for name, array in arrays.items()}
        if self.experiment.rounds.wire == "single":
            return arrays, model
        small = sent(model, self.experiment)
        return wire.pack(small), received(small, self.experiment)

    def _received(self, reply: wire.Reply) -> wire.Arrays:
        try:
            return received(reply.model, self.experiment)
        except ValueError as error:
            raise BadReplyError(str(error)) from None

    def _message(self, kind: str, site: str, model: ArrayRecord, evaluate: bool) -> Message:
        facts = self.sites[site]
        needs_frame = kind == wire.TRAIN or last_step_needs_frame(self.experiment)
        content = wire.request(
            self.experiment,
            run=self.journal.folder.name,
            identity=self.journal.identity,
            server_round=self._round.number,
            secured=self._secured,
            trained=self.personal_parts.trained(site),
            evaluate=evaluate,
            sites_dir=None if self._deployed else self.journal.folder / "sites",
            model=model,
            frame=self._frame if needs_frame and not facts.has_frame else None,
            frame_hash=self._frame_hash if needs_frame else "",
        )
        message = Message(content, facts.node_id, kind, ttl=self.experiment.rounds.round_timeout)
        self._round.bytes_down += wire.num_bytes(message)
        return message

    def evaluate_generic(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Evaluate the generic model with each head it has, where the round asks for it, and log the round."""
        first, server_round = not server_round, server_round + self._done
        if server_round <= self._evaluated:  # the round before was not heard of, and is repeated
            return None
        self._evaluated = server_round
        if self._is_evaluated(server_round):
            reports = self.evaluation(self.as_sent(arrays)[1])
            stage = "final" if server_round == self.experiment.rounds.rounds else "training"
            for head, report in reports.items():
                self.journal.event("generic", round=server_round, stage=stage, head=head, **generic_facts(report))
            judged_by = reports.get(self._row.reported_head or "")
            self._teller.generic = primary(judged_by) if judged_by else None
        if not first:
            self._teller.tell(self._round)
        return None

    def _is_evaluated(self, server_round: int) -> bool:
        return (
            server_round % self.experiment.rounds.evaluate_every == 0 or server_round == self.experiment.rounds.rounds
        )

    def _record_round(self) -> None:
        self._teller.record(self._round)

    # --- after the last round -----------------------------------------------------------------------

    def personalise(self, grid: Grid, arrays: ArrayRecord) -> None:
        """Have every site make its personal model of the final θ and ψ, `as_sent`, and journal the figures.

        Sites without a usable reply are asked again, `round-retries` times; above the quorum only those that failed.

        Raises:
            wire.WireError: fewer than the quorum have made one.
        """
        everyone, timeout = sorted(self.sites), self.experiment.rounds.round_timeout
        figures = figure_names(wire.STAGES, multilabel=self._multilabel)
        stages: dict[str, dict[str, dict[str, float]]] = {stage: {} for stage in wire.STAGES}
        needed, made, missing = quorum_of(self.experiment, len(everyone)), set[str](), everyone
        diverged, hopeless = set[str](), set[str]()
        for attempt in range(self.experiment.rounds.round_retries + 1):
            if attempt:
                log.warning("personal models: asking again %s", ", ".join(missing))
                if self._deployed:  # one may be back as another node
                    self._newcomers.welcome(grid, self.experiment.rounds.rounds + 1)
            self._begin(Round(self.experiment.rounds.rounds + 1, missing, figures))
            messages = (self._message(wire.PERSONALISE, name, arrays, evaluate=True) for name in missing)
            replies = grid.send_and_receive(messages, timeout=timeout)
            with self._gate.usable(replies, self._round, trains=False) as usable:
                for site, reply in usable:
                    self._round.answered.append(site)
                    self.personal_parts.note(site, reply)
                    for stage, found in stages.items():
                        if told := site_figures(reply.metrics, stage, self.sites[site].num_test):
                            found[site] = told
            self._gate.name_the_silent(self._round, timeout)
            made |= set(self._round.answered)
            # a simulated site that diverges does so again, and a real one that has twice
            hopeless |= self._round.diverged & diverged if self._deployed else self._round.diverged
            diverged |= self._round.diverged
            # with the quorum there, who was silent is not waited for again
            missing = sorted((self._round.heard if len(made) >= needed else set(everyone)) - made - hopeless)
            if not missing or len(everyone) - len(hopeless) < needed:
                break
        if len(made) < needed:
            why = f"personal models: {len(made)} of {len(everyone)} sites have made one; the reasons are above"
            todo = "fix what is wrong, and run again with resume=true"
            if hopeless:
                todo = f"training diverged at {', '.join(sorted(hopeless))}, and would again: in a new run a smaller "
                todo += "learning-rate or finetune-learning-rate may help"
            raise wire.WireError(f"{why}. The checkpoint stays: {todo}")
        for stage, found in stages.items():
            if found:
                self._teller.personal(stage, found, self.experiment.rounds.rounds)

    # --- Flower's separate evaluation phase is not used: sites evaluate on arrival ---------------------------

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask nobody: a train message evaluates what arrives, without a second download."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing was asked."""
        return None
