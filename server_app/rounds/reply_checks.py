"""Every check that a reply passes before it is used: `CHECKS`, from the first to the last.

What fails one is rejected: named with its reason in the log and in the journal, and the round goes on without it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Message

from common import wire
from common.config import Experiment
from common.errors import short_repr
from common.precision import from_wire_precision
from server_app.aggregation.mean import RunningMean
from server_app.aggregation.values import MAX_MAGNITUDE, BadReplyError, DivergedError
from server_app.methods import ServerMethod
from server_app.rounds.round import Round
from server_app.sites.discovery import SiteFacts

_MAX_LOSSES = 8  # no method has half as many
_MAX_METRICS = 64  # numbers in a reply; the longest honest one has about thirty


@dataclass(frozen=True)
class Broadcast:
    """What the updates of a round are compared with.

    Attributes:
        experiment: the run.
        arrays: of the model that was sent, as the sites have them.
        mean: of the round; it knows what an update must look like, and how far it may move.
        method: it knows its extras.
    """

    experiment: Experiment
    arrays: wire.Arrays
    mean: RunningMean
    method: ServerMethod


@dataclass
class Incoming:
    """A reply on its way through the checks.

    Attributes:
        message: as it came.
        site: its name, 'node 7' for an unknown one.
        facts: what the site declared; no images for an unknown one.
        now: the round.
        broadcast: of a round that trains; None where sites make their personal models.
        reply: what the message says, from `is_readable` on.
        step: 2-norm of its update, from `step_is_bounded` on.
    """

    message: Message
    site: str
    facts: SiteFacts
    now: Round
    broadcast: Broadcast | None
    reply: wire.Reply = field(init=False)
    step: float = 0.0

    @property
    def brings_model(self) -> bool:
        """Whether its update is a model: of a site with images, and a method whose sites train."""
        return self.broadcast is not None and self.broadcast.method.row.trains and self.facts.num_train > 0

    @property
    def compared_with(self) -> Broadcast | None:
        """What its model and extras are compared with; None where they are not used: the site counts for no images."""
        return self.broadcast if self.facts.images else None


# --- who says it ------------------------------------------------------------------------------------


def was_asked(incoming: Incoming) -> None:
    """Refuse a node that the round did not ask, or an unknown one: it could otherwise reply in every round."""
    if incoming.site not in incoming.now.asked:
        raise BadReplyError("was not asked in this round")


def answers_once(incoming: Incoming) -> None:
    """Refuse a second answer, which would count a site twice; the first counts as one whatever it says."""
    if incoming.site in incoming.now.responded:
        raise BadReplyError("has answered before in this round")
    incoming.now.responded.add(incoming.site)


# --- what it is ---------------------------------------------------------------------------------------


def is_readable(incoming: Incoming) -> None:
    """Refuse an error and what is no reply of FedNC's client: see `wire.Reply`, which takes nothing on trust.

    In its order: the site says that it failed; records that nobody asked for; numbers that are none; arrays of pickled
    objects, or in archives that grow when they are opened; a shape of more bytes than came.
    """
    incoming.reply = wire.Reply(incoming.message)


def is_of_this_round(incoming: Incoming) -> None:
    """Refuse a reply that is late or played again: its model started from other weights."""
    if incoming.reply.round != incoming.now.number:
        raise BadReplyError(f"its reply belongs to round {incoming.reply.round:g}")


# --- its metrics --------------------------------------------------------------------------------------


def metrics_are_few(incoming: Incoming) -> None:
    """Refuse a flood of numbers, which would fill the journal."""
    metrics = incoming.reply.metrics
    if len(metrics) > _MAX_METRICS:
        raise BadReplyError(f"{len(metrics)} metrics, where at most {_MAX_METRICS} are asked for")
    if (losses := sum(name.startswith("loss-") for name in metrics)) > _MAX_LOSSES:
        raise BadReplyError(f"{losses} losses, where no method has more than {_MAX_LOSSES}")


def metrics_were_asked_for(incoming: Incoming) -> None:
    """Refuse a metric of another stage or task: a mean over sites would break on it, or mix what differs."""
    for name in incoming.reply.metrics:
        if name not in incoming.now.metrics and not wire.COUNTS_AND_LOSSES.fullmatch(name):
            raise BadReplyError(f"{name!r} is no metric that a site is asked for here")


def metrics_are_finite(incoming: Incoming) -> None:
    """Refuse a number that is not finite, and a huge loss: one of them makes every mean over sites worthless."""
    for name, value in incoming.reply.metrics.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} = {value}: not finite")
        if name.startswith("loss-") and abs(value) > MAX_MAGNITUDE:
            raise DivergedError(f"{name} = {value:g}: beyond {MAX_MAGNITUDE:g}; training diverged there")


def trained_on_declared_images(incoming: Incoming) -> None:
    """Refuse another number of training images than declared: by it a site's model and losses count."""
    _expect(incoming.reply.metrics, "num-examples", incoming.facts.num_train)


def started_from_an_earlier_round(incoming: Incoming) -> None:
    """Refuse personal parts of a round that has not been, which would later pass for lost ones."""
    started_from, server_round = incoming.reply.metrics.get(wire.STARTED_FROM, 0), incoming.reply.round
    if started_from not in range(max(1, int(server_round))):
        raise BadReplyError(f"{wire.STARTED_FROM} = {started_from:g}: no round before round {server_round:g}")


def tested_on_declared_images(incoming: Incoming) -> None:
    """Refuse another number of test images than declared: hits are divided by it."""
    metrics = incoming.reply.metrics
    if incoming.broadcast is None or incoming.now.metrics & metrics.keys():
        _expect(metrics, "num-test", incoming.facts.num_test)


def metrics_are_in_range(incoming: Incoming) -> None:
    """Refuse more hits than test images, and a share beyond 1: a site could look better than any can be."""
    for name in sorted(incoming.now.metrics & incoming.reply.metrics.keys()):
        value = incoming.reply.metrics[name]
        if name.startswith("hits-"):
            if not (value.is_integer() and 0 <= value <= incoming.facts.num_test):
                raise BadReplyError(f"{name} = {value:g}: the site has {incoming.facts.num_test} test images")
        elif not 0 <= value <= (MAX_MAGNITUDE if name.startswith("undefined_auc-") else 1):
            raise BadReplyError(f"{name} = {value:g}: not a share of 1")


def class_metrics_agree(incoming: Incoming) -> None:
    """Refuse metrics by class of another stage or form, and values that are no shares of 1 nor nan: not measured."""
    stages = wire.STAGES if incoming.now.num_classes else ()
    for stage, values in incoming.reply.class_metrics.items():
        if stage not in stages:
            raise BadReplyError(f"metrics by class of {short_repr(stage)}, which nobody asked for")
        if values.dtype != np.float64 or values.shape != (incoming.now.num_classes,):
            raise BadReplyError(f"metrics by class are {values.dtype} {values.shape}: not one number a class")
        measured = values[~np.isnan(values)]
        if not ((measured >= 0) & (measured <= 1)).all():
            raise BadReplyError("metrics by class: not all are shares of 1")
        if measured.size and not incoming.facts.num_test:
            raise BadReplyError("metrics by class of no test image")


# --- its update: extras and model -----------------------------------------------------------------------


def brings_a_model_if_trained(incoming: Incoming) -> None:
    """Refuse a model made of no images, or where nothing trains, and a site that keeps its model back."""
    if incoming.broadcast and bool(incoming.reply.model) != incoming.brings_model:
        raise BadReplyError("a model without training images" if incoming.reply.model else "no model came back")


def extras_agree(incoming: Incoming) -> None:
    """Refuse extras of other names, shapes, types or values than the method asks for: see `ServerMethod.check`."""
    if broadcast := incoming.compared_with:
        if not incoming.reply.extras and broadcast.method.held(incoming.site):
            return  # they are those that came before
        broadcast.method.check(incoming.reply.extras, broadcast.arrays, incoming.facts.num_train)


def precision_is_agreed(incoming: Incoming) -> None:
    """Refuse single precision where half was agreed; from here on the model is in the precision to compute with."""
    if broadcast := incoming.compared_with:
        try:
            incoming.reply.model = from_wire_precision(incoming.reply.model, broadcast.experiment)
        except ValueError as error:
            raise BadReplyError(str(error)) from None


def arrays_agree(incoming: Incoming) -> None:
    """Refuse a model of other names, shapes or types than was sent: a wrong shape could spread over the whole sum."""
    if broadcast := incoming.compared_with:
        broadcast.mean.check_form(incoming.reply.model)


def values_are_sound(incoming: Incoming) -> None:
    """Refuse a value that is not finite or huge, or a variance below 0: one of them spoils the mean for all."""
    if broadcast := incoming.compared_with:
        broadcast.mean.check_values(incoming.reply.model)


def step_is_bounded(incoming: Incoming) -> None:
    """Refuse a model that moved further than `max-step` allows: it would drag the mean along, however it was made."""
    if broadcast := incoming.compared_with:
        incoming.step = broadcast.mean.check_step(incoming.reply.model)


CHECKS: tuple[Callable[[Incoming], None], ...] = (
    was_asked,
    answers_once,
    is_readable,
    is_of_this_round,
    metrics_are_few,
    metrics_were_asked_for,
    metrics_are_finite,
    trained_on_declared_images,
    started_from_an_earlier_round,
    tested_on_declared_images,
    metrics_are_in_range,
    class_metrics_agree,
    brings_a_model_if_trained,
    extras_agree,
    precision_is_agreed,
    arrays_agree,
    values_are_sound,
    step_is_bounded,
)


def _expect(metrics: Mapping[str, float], name: str, declared: int) -> None:
    if metrics.get(name) != declared:
        raise BadReplyError(f"{name} = {metrics.get(name)}: the site declared {declared} when the run began")


def first_refusal(incoming: Incoming) -> wire.WireError | None:
    """Return why a reply cannot be used, of the first check that it fails; None if it passes all."""
    try:
        for check in CHECKS:
            check(incoming)
    except wire.WireError as error:
        return error
    return None
