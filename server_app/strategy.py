"""The rounds, as a Flower `Strategy`: sample sites, send θ and ψ, add up what returns (Algorithm 1, server)."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from common import wire
from common.config import Experiment
from common.metrics import spread
from common.seeds import numpy_generator
from server_app.aggregation import Arrays, BadReplyError, RunningMean
from server_app.checkpoint import save_checkpoint
from server_app.evaluation import GenericEvaluation
from server_app.journal import Clock, Journal, log, percent


@dataclass
class SiteFacts:
    """What the coordinator knows of a site: its node, its declared image counts, whether it holds the frame."""

    node_id: int
    num_train: int
    num_test: int
    has_frame: bool = False


@dataclass
class Round:
    """What one round has told so far."""

    number: int
    asked: list[str]
    started: float = field(default_factory=time.monotonic)
    answered: list[str] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)  # summed over sites, weighted by images
    images: int = 0
    arrival: dict[str, tuple[int, int]] = field(default_factory=dict)  # site → hits, test images
    bytes_down: int = 0
    bytes_up: int = 0


class FedStrategy(Strategy):
    """Federated rounds of any method in `common/methods.py`.

    Args:
        experiment: the run.
        sites: every site by name; the sampling order is the sorted names.
        journal: the run's folder.
        frame: fixed classifier [C, d] or None.
        evaluation: the generic model on the coordinator's test set.
    """

    def __init__(
        self,
        experiment: Experiment,
        sites: dict[str, SiteFacts],
        journal: Journal,
        frame: npt.NDArray[np.float32] | None,
        evaluation: GenericEvaluation,
    ) -> None:
        self.experiment, self.sites, self.journal, self.evaluation = experiment, sites, journal, evaluation
        self._names = {facts.node_id: name for name, facts in sites.items()}
        self._frame, self._frame_hash = frame, "" if frame is None else wire.frame_digest(frame)
        self._sent: Arrays = {}
        self._round = Round(0, [])
        self._clock = Clock(experiment.rounds)
        self._last_generic: float | None = None
        self._last_personal: tuple[float, int] | None = None

    def summary(self) -> None:
        """Say nothing: the app logs the experiment itself."""

    # --- training -----------------------------------------------------------------------------------

    def sample(self, server_round: int) -> list[str]:
        """Return the sites of a round: round(rate · K) of the sorted names, from the run's own generator."""
        names = sorted(self.sites)
        count = max(1, round(self.experiment.participation * len(names)))
        if count == len(names):
            return names
        generator = numpy_generator(self.experiment.seed, "sample", server_round=server_round)
        return sorted(generator.choice(names, size=count, replace=False).tolist())

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send θ and ψ to the round's sites, with the frame where it is not yet known."""
        self._sent = {name: array.numpy() for name, array in arrays.items()}
        self._round = Round(server_round, self.sample(server_round))
        evaluate = self._is_evaluated(server_round - 1)  # what arrives is what the round before produced
        return [self._message(wire.TRAIN, name, self._sent, evaluate) for name in self._round.asked]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check each reply, add it to the running mean, and return the mean as the new global model."""
        mean = RunningMean(self._sent)
        for message in replies:
            self._take(message, mean)
        if not self._round.answered:
            raise wire.WireError(f"round {server_round}: no site's reply could be used; the reasons are above")
        arrays = mean.mean()
        self._record_round()
        if server_round % self.experiment.checkpoint_every == 0:
            save_checkpoint(self.journal.folder, server_round, arrays)
        return wire.pack(arrays), None

    def _take(self, message: Message, mean: RunningMean) -> None:
        site, now = self._site_of(message), self._round
        try:
            reply = wire.Reply(message)
            if reply.model:
                mean.add(reply.model, int(reply.metrics["num-examples"]))
        except (wire.WireError, BadReplyError, KeyError) as error:
            self._reject(site, error)
            return
        now.answered.append(site)
        now.bytes_up += reply.num_bytes
        if reply.frame_hash == self._frame_hash:
            self.sites[site].has_frame = True
        images = int(reply.metrics["num-examples"])
        now.images += images
        for key, value in reply.metrics.items():
            if key.startswith("loss-"):
                name = key.removeprefix("loss-")
                now.losses[name] = now.losses.get(name, 0.0) + images * value
        if "hits-arrival" in reply.metrics:
            now.arrival[site] = int(reply.metrics["hits-arrival"]), int(reply.metrics["num-test"])

    def _reject(self, site: str, error: Exception) -> None:
        reason = str(error).removeprefix("common.errors.UserError: ")
        self.sites[site].has_frame = False  # it may have lost its cache
        log.warning("round %d: %s left out: %s", self._round.number, site, reason)
        self.journal.event("rejected", round=self._round.number, site=site, reason=reason)

    def _site_of(self, message: Message) -> str:
        return self._names[message.metadata.src_node_id]

    def _message(self, kind: str, site: str, arrays: Arrays, evaluate: bool) -> Message:
        facts = self.sites[site]
        content = wire.request(
            self.experiment,
            run=self.journal.folder.name,
            server_round=self._round.number,
            evaluate=evaluate,
            sites_dir=self.journal.folder / "sites",
            model=arrays,
            frame=None if facts.has_frame else self._frame,
            frame_hash=self._frame_hash,
        )
        message = Message(content, facts.node_id, kind, ttl=self.experiment.round_timeout)
        self._round.bytes_down += wire.num_bytes(message)
        return message

    # --- figures ------------------------------------------------------------------------------------

    def evaluate_generic(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Evaluate the generic model with each head it has, where the round asks for it, and log the round."""
        if self._is_evaluated(server_round):
            reports = self.evaluation({name: array.numpy() for name, array in arrays.items()})
            stage = "final" if server_round == self.experiment.rounds else "training"
            for head, report in reports.items():
                self.journal.event("generic", round=server_round, stage=stage, head=head, **report.as_json())
            self._last_generic = self.evaluation.headline(reports, realigned=True).balanced_accuracy
        if server_round:
            self._log_round()
        return None

    def _is_evaluated(self, server_round: int) -> bool:
        return server_round % self.experiment.evaluate_every == 0 or server_round == self.experiment.rounds

    def _record_round(self) -> None:
        now = self._round
        if now.arrival:
            figures = self.record_personal("arrival", now.arrival, now.number)
            self._last_personal = figures["mean"], now.number - 1
        self.journal.event(
            "round",
            round=now.number,
            asked=len(now.asked),
            answered=len(now.answered),
            loss={name: total / max(1, now.images) for name, total in now.losses.items()},
            seconds=round(time.monotonic() - now.started, 3),
            bytes_down=now.bytes_down,
            bytes_up=now.bytes_up,
        )

    def record_personal(self, stage: str, hits: dict[str, tuple[int, int]], server_round: int) -> dict[str, Any]:
        """Journal personal accuracy of a stage: unweighted mean over sites, spread, worst site."""
        sites = {
            name: {"accuracy": right / total if total else None, "num_test": total}
            for name, (right, total) in sorted(hits.items())
        }
        known = {name: right / total if total else float("nan") for name, (right, total) in hits.items()}
        figures = spread(known).as_json()
        self.journal.event("personal", round=server_round, stage=stage, **figures, sites=sites)
        return figures

    def _log_round(self) -> None:
        now, rounds = self._round, self.experiment.rounds
        symbols = {"backbone": "θ", "aux_head": "ψ", "personal_head": "φ"}
        losses = " ".join(f"{symbols.get(n, n)} {t / max(1, now.images):.3f}" for n, t in now.losses.items())
        personal = "–"
        if self._last_personal:
            personal = f"{percent(self._last_personal[0])} (round {self._last_personal[1]})"
        log.info(
            "round %*d/%d | %d of %d sites | loss %s | generic %s | personal %s | %.1f s, about %s left",
            len(str(rounds)), now.number, rounds, len(now.answered), len(now.asked), losses,
            percent(self._last_generic), personal, time.monotonic() - now.started, self._clock.left(now.number),
        )  # fmt: skip

    # --- after the last round -----------------------------------------------------------------------

    def personalise(self, grid: Grid, arrays: Arrays) -> dict[str, dict[str, Any]]:
        """Have every site realign and fine-tune its head on the final θ and ψ; return the figures by stage."""
        self._round = Round(self.experiment.rounds, sorted(self.sites))
        messages = [self._message(wire.PERSONALISE, name, arrays, evaluate=True) for name in self._round.asked]
        hits: dict[str, dict[str, tuple[int, int]]] = {stage: {} for stage in wire.STAGES}
        for message in grid.send_and_receive(messages, timeout=self.experiment.round_timeout):
            site = self._site_of(message)
            try:
                metrics = wire.Reply(message).metrics
            except wire.WireError as error:
                self._reject(site, error)
                continue
            for stage in wire.STAGES:
                if f"hits-{stage}" in metrics:
                    hits[stage][site] = int(metrics[f"hits-{stage}"]), int(metrics["num-test"])
        return {
            stage: self.record_personal(stage, found, self.experiment.rounds) for stage, found in hits.items() if found
        }

    # --- Flower's separate evaluation phase is not used: sites evaluate on arrival ---------------------------

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask nobody: a train message evaluates what arrives, without a second download."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing was asked."""
        return None


def greet(grid: Grid, experiment: Experiment, timeout: float) -> dict[str, SiteFacts]:
    """Ask every node who it is.

    Returns:
        The sites by name.

    Raises:
        wire.WireError: no node answered as FedNC's client, or two nodes have the same name.
    """
    content = wire.request(experiment, run="")
    messages = [Message(content, node_id, wire.HELLO, ttl=timeout) for node_id in grid.get_node_ids()]
    sites: dict[str, SiteFacts] = {}
    for message in grid.send_and_receive(messages, timeout=timeout):
        hello = wire.read_hello(message)
        name = str(hello["site"])
        if hello["code"] != wire.code_fingerprint():
            raise wire.WireError(f"{name} runs another version of FedNC than the coordinator: install the same")
        if name in sites:
            raise wire.WireError(f"two sites call themselves '{name}': give each its own name")
        sites[name] = SiteFacts(message.metadata.src_node_id, int(hello["num-train"]), int(hello["num-test"]))
    if not sites:
        raise wire.WireError("no site answered: start at least one")
    return sites


def run_folder(experiment: Experiment) -> Path:
    """Return the run's own folder below `output-dir`."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = experiment.run_name or f"{experiment.name}-{experiment.method}-seed{experiment.seed}-{stamp}"
    return experiment.output_dir / name
