"""The messages of a round: the model, and with it what each site needs."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message

from common import wire
from common.config import Experiment
from common.models.model import last_step_needs_frame
from common.precision import from_wire_precision, to_wire_precision
from server_app.methods import ServerMethod
from server_app.rounds.personal_parts import PersonalPartsTracker
from server_app.rounds.round import Round
from server_app.run.checkpoint import checkpoint_rounds
from server_app.run.journal import Journal
from server_app.sites.discovery import SiteFacts


def as_broadcast(arrays: ArrayRecord, experiment: Experiment) -> tuple[ArrayRecord, wire.Arrays]:
    """Return a model as it is sent, and as the sites see it (after rounding to the wire precision)."""
    model = {name: array.numpy() for name, array in arrays.items()}
    if experiment.rounds.wire == "single":
        return arrays, model
    small = to_wire_precision(model, experiment)
    return wire.pack(small), from_wire_precision(small, experiment)


def metric_names(stages: Collection[str], *, multilabel: bool) -> frozenset[str]:
    """Return the names of the metrics that sites are asked for at some stages."""
    metrics = wire.MULTILABEL_METRICS if multilabel else wire.SINGLE_LABEL_METRICS
    return frozenset(f"{metric}-{stage}" for metric in metrics for stage in stages)


class Requests:
    """Builds the messages of a round.

    Args:
        experiment: the run.
        sites: every site by name.
        journal: the run's folder.
        frame: fixed classifier [C, d] or None; it goes to the sites that do not have it yet.
        personal_parts: the last round that each site trained in.
        method: knows which extras need not come again.

    Attributes:
        frame_hash: content hash of the frame, '' without.
    """

    def __init__(
        self,
        experiment: Experiment,
        sites: Mapping[str, SiteFacts],
        journal: Journal,
        frame: npt.NDArray[np.float32] | None,
        fixed: wire.Arrays,
        personal_parts: PersonalPartsTracker,
        method: ServerMethod,
    ) -> None:
        self._method = method
        self._experiment, self._sites, self._journal = experiment, sites, journal
        self._frame, self._fixed, self._personal_parts = frame, fixed, personal_parts
        self.frame_hash = wire.frame_digest(frame, fixed)

    def messages(
        self, kind: str, now: Round, model: ArrayRecord, *, evaluate: bool, sums: wire.Arrays | None = None
    ) -> Iterator[Message]:
        """Return a message to each site that a round asks, made when it is sent.

        Args:
            kind: `wire.HEAD_START`, `wire.TRAIN` or `wire.PERSONALISE`.
            now: the round.
            model: as it is sent.
            evaluate: whether the sites evaluate the model before they train it.
            sums: for personalise, those of the method's row.
        """
        checkpointed = checkpoint_rounds(self._journal.folder) or [0]  # sites may drop versions between these
        return (self._message(kind, site, now, model, evaluate, checkpointed, sums) for site in now.asked)

    def _message(
        self,
        kind: str,
        site: str,
        now: Round,
        model: ArrayRecord,
        evaluate: bool,
        checkpointed: list[int],
        sums: wire.Arrays | None,
    ) -> Message:
        facts = self._sites[site]
        needs_frame = kind != wire.PERSONALISE or last_step_needs_frame(self._experiment) or bool(self._fixed)
        simulated = self._experiment.sites.partition != "deployed"
        content = wire.request(
            self._experiment,
            run=self._journal.folder.name,
            identity=self._journal.identity,
            server_round=now.number,
            checkpointed=checkpointed,
            trained=self._personal_parts.trained(site),
            rate=now.rate,
            evaluate=evaluate,
            sites_dir=self._journal.folder / "sites" if simulated else None,
            model=model,
            frame=self._frame if needs_frame and not facts.has_frame else None,
            fixed=None if facts.has_frame else self._fixed,
            frame_hash=self.frame_hash if needs_frame else "",
            held=self._method.held(site),
            sums=sums,
        )
        message = Message(content, facts.node_id, kind, ttl=self._experiment.rounds.round_timeout)
        now.bytes_down += wire.num_bytes(message)
        return message
