"""Before the first round, where `head-start` says so: sums of features of all sites, and the head that they determine.

Nothing trains yet. The features are of the whole backbone as it starts, in evaluation mode; sums, checks and equations
are those of the method whose generic head it is, such as FedRidge.
"""

import numpy as np
from flwr.serverapp import Grid

from common import wire
from common.architectures import NO_WEIGHTS
from common.config import Experiment
from common.data import Federation
from common.files import read_own, save_arrays
from common.head_start import solver_of, starts_at_sites
from common.methods import METHODS
from common.models.model import Model, coordinator_state, feature_dim, fixed_state, shared_state
from common.models.start import PREFIX, start_heads
from server_app.aggregation.mean import RunningMean
from server_app.aggregation.robust import make_aggregator, quorum_size
from server_app.methods import load as load_method
from server_app.methods.fed3r import SolvedHead
from server_app.rounds.messages import Requests, as_broadcast
from server_app.rounds.personal_parts import PersonalPartsTracker
from server_app.rounds.progress import RoundProgress
from server_app.rounds.reply_checks import Broadcast
from server_app.rounds.reply_filter import ReplyFilter
from server_app.rounds.round import Round
from server_app.run.journal import Journal, log
from server_app.sites.discovery import SiteFacts

_FILE = "head_start.safetensors"


def start_from_sums(
    grid: Grid,
    experiment: Experiment,
    federation: Federation,
    sites: dict[str, SiteFacts],
    journal: Journal,
    model: Model,
) -> wire.Arrays:
    """Set the heads of the coordinator's model as `head-start` says, and return what sites need for theirs.

    The head is kept in the run's folder: a run that is taken up again does not ask for it.

    Returns:
        What goes to each site once, beside what stands still; empty where no head stays at the sites.

    Raises:
        wire.WireError: too few sites sent their sums.
    """
    solver = solver_of(experiment)
    if solver is None:
        return {}
    path, row = journal.folder / _FILE, METHODS[experiment.method]
    if experiment.run.resume and path.exists():
        head = read_own(path, "remove it, and the sites are asked for their sums again")
    else:
        head = _ask(grid, experiment, solver, federation, sites, journal, model)
        save_arrays(path, head, {})
    start_heads(model, row, head)
    return {PREFIX + name: array for name, array in head.items()} if starts_at_sites(row) else {}


def _ask(
    grid: Grid,
    experiment: Experiment,
    solver: Experiment,
    federation: Federation,
    sites: dict[str, SiteFacts],
    journal: Journal,
    model: Model,
) -> wire.Arrays:
    """Return the head of the sums of all sites that answer, `weight` and perhaps `bias`."""
    if experiment.model.weights == NO_WEIGHTS:
        log.warning(
            "head-start = %s: the backbone has no weights: heads start from features of a random one",
            experiment.model.head_start,
        )
    method = load_method(solver.method)(solver, federation)
    assert isinstance(method, SolvedHead)
    exchange = _Exchange(grid, experiment, solver, sites, journal, model, method)
    method.begin()
    exchange.run()
    method.take()
    parts, facts = method.solve(bias=experiment.model.head_bias)
    journal.event("head-start", round=0, start=experiment.model.head_start, **facts)
    images = sum(sites[name].images for name in exchange.made)
    log.info(
        "head-start = %s: heads start from the features of %s images at %d sites",
        experiment.model.head_start, f"{images:,}", len(exchange.made),
    )  # fmt: skip
    return {name.split(".", 1)[1]: array for name, array in parts.items()}


class _Exchange:
    """Asks every site for its sums, again where that failed, and gives what passes the checks to the method."""

    def __init__(
        self,
        grid: Grid,
        experiment: Experiment,
        solver: Experiment,
        sites: dict[str, SiteFacts],
        journal: Journal,
        model: Model,
        method: SolvedHead,
    ) -> None:
        row = METHODS[experiment.method]
        self._grid, self._experiment, self._sites, self._method = grid, experiment, sites, method
        self._progress = RoundProgress(experiment.rounds.rounds)
        self._filter = ReplyFilter(sites, journal, self._progress)
        frame = None if model.frame is None else model.frame.cpu().numpy()
        fixed, parts = fixed_state(model, row, experiment), PersonalPartsTracker(journal)
        self._requests = Requests(experiment, sites, journal, frame, fixed, parts, method)
        self._arrays, _ = as_broadcast(wire.pack(shared_state(model, row) | coordinator_state(model, row)), experiment)
        head = {"aux_head.weight": np.empty((method.num_classes, feature_dim(model.backbone)), np.float32)}
        mean: RunningMean = make_aggregator({}, solver)
        self._broadcast = Broadcast(solver, head, mean, method)
        self._again = starts_at_sites(row)  # the head goes with what is sent once, which then goes again
        self.made: set[str] = set()

    def run(self) -> None:
        """Ask until enough sites have answered, `round-retries` times at most after the first.

        Raises:
            wire.WireError: fewer sites than the quorum sent their sums.
        """
        everyone = sorted(self._sites)
        needed = quorum_size(self._experiment, len(everyone))
        for attempt in range(self._experiment.rounds.round_retries + 1):
            missing = [name for name in everyone if name not in self.made]
            if attempt:
                log.warning("head-start: asking again %s", ", ".join(missing))
            self._ask(missing)
            if len(self.made) >= needed:
                return
        word = self._experiment.model.head_start
        raise wire.WireError(
            f"head-start = {word}: {len(self.made)} of {len(everyone)} sites sent their sums of features; the reasons "
            "are above; where policies refuse them, choose head-start: random"
        )

    def _ask(self, names: list[str]) -> None:
        now, timeout = Round(0, names), self._experiment.rounds.round_timeout
        self._progress.begin(now)
        messages = self._requests.messages(wire.HEAD_START, now, self._arrays, evaluate=False)
        replies = self._grid.send_and_receive(messages, timeout=timeout)
        with self._filter.usable(replies, now, self._broadcast) as usable:
            for incoming in usable:
                if incoming.facts.images:
                    self._method.add_extras(incoming.site, incoming.reply.extras)
                self.made.add(incoming.site)
                incoming.facts.has_frame = not self._again and incoming.reply.frame_hash == self._requests.frame_hash
        self._filter.reject_silent(now, timeout)
