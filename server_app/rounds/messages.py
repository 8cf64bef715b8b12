"""What a round sends to its sites: the model, and with it what each of them needs."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message

from common import wire
from common.config import Experiment
from common.models.model import last_step_needs_frame
from common.precision import received, sent
from server_app.rounds.personal_parts import PersonalParts
from server_app.rounds.round import Round
from server_app.run.checkpoint import checkpoint_rounds
from server_app.run.journal import Journal
from server_app.sites.discovery import SiteFacts


def as_sent(arrays: ArrayRecord, experiment: Experiment) -> tuple[ArrayRecord, wire.Arrays]:
    """Return a model as it crosses, and as the sites then have it."""
    model = {name: array.numpy() for name, array in arrays.items()}
    if experiment.rounds.wire == "single":
        return arrays, model
    small = sent(model, experiment)
    return wire.pack(small), received(small, experiment)


def metric_names(stages: Collection[str], *, multilabel: bool) -> frozenset[str]:
    """Return the names of the metrics that sites are asked for at some stages."""
    metrics = wire.MULTILABEL_FIGURES if multilabel else ("hits",)
    return frozenset(f"{metric}-{stage}" for metric in metrics for stage in stages)


class Requests:
    """Builds the messages of a round.

    Args:
        experiment: the run.
        sites: every site by name.
        journal: the run's folder.
        frame: fixed classifier [C, d] or None; it goes to the sites that do not have it yet.
        personal_parts: the last round that each site trained in.

    Attributes:
        frame_hash: content hash of the frame, '' without.
    """

    def __init__(
        self,
        experiment: Experiment,
        sites: Mapping[str, SiteFacts],
        journal: Journal,
        frame: npt.NDArray[np.float32] | None,
        personal_parts: PersonalParts,
    ) -> None:
        self._experiment, self._sites, self._journal = experiment, sites, journal
        self._frame, self._personal_parts = frame, personal_parts
        self.frame_hash = "" if frame is None else wire.frame_digest(frame)

    def messages(self, kind: str, now: Round, model: ArrayRecord, *, evaluate: bool) -> Iterator[Message]:
        """Return a message to each site that a round asks, made when it is sent.

        Args:
            kind: `wire.TRAIN` or `wire.PERSONALISE`.
            now: the round.
            model: as it crosses.
            evaluate: whether a site evaluates what arrives.
        """
        secured = checkpoint_rounds(self._journal.folder) or [0]  # sites may forget what lies between
        return (self._message(kind, site, now, model, evaluate, secured) for site in now.asked)

    def _message(
        self, kind: str, site: str, now: Round, model: ArrayRecord, evaluate: bool, secured: list[int]
    ) -> Message:
        facts = self._sites[site]
        needs_frame = kind == wire.TRAIN or last_step_needs_frame(self._experiment)
        simulated = self._experiment.sites.partition != "deployed"
        content = wire.request(
            self._experiment,
            run=self._journal.folder.name,
            identity=self._journal.identity,
            server_round=now.number,
            secured=secured,
            trained=self._personal_parts.trained(site),
            evaluate=evaluate,
            sites_dir=self._journal.folder / "sites" if simulated else None,
            model=model,
            frame=self._frame if needs_frame and not facts.has_frame else None,
            frame_hash=self.frame_hash if needs_frame else "",
        )
        message = Message(content, facts.node_id, kind, ttl=self._experiment.rounds.round_timeout)
        now.bytes_down += wire.num_bytes(message)
        return message
