"""What an experiment needs beyond its own keys, checked before anything starts: data that its method can learn from."""

from collections.abc import Iterable

from common.config import Experiment
from common.config.rows import keys_where
from common.data import Dataset, Federation, build_federation
from common.errors import UserError, run_all
from common.head_start import solver_of
from common.methods import METHODS, methods_for
from common.models.backbones import check_image_size
from common.models.memory import check_memory
from common.models.model import pick_device, uses_attention
from common.models.standing import check_train_from
from common.models.weights import pin_weights
from server_app.checks.override_checks import check_simulated


def check_feasible(experiment: Experiment) -> Federation:
    """Return the federation, whose data are fetched and checked, and which the method can learn from.

    Raises:
        UserError: missing or malformed data, a partition that cannot be had, a method for another kind of labels,
            images that are too small, weights or a device that are not there, a model that does not fit in memory.
    """
    federation = build_federation(experiment)
    check_task(experiment, federation.dataset)
    check_image_size(experiment.model.backbone, federation.dataset.train.size)
    check_train_from(experiment)
    pin_weights(experiment)
    device = pick_device(experiment.run.device)
    if experiment.sites.partition != "deployed":  # real sites have machines of their own
        train = federation.dataset.train
        check_memory(experiment, train.channels, train.size, device)
    return federation


def check_task(experiment: Experiment, dataset: Dataset) -> None:
    """Raise `UserError` where the method cannot learn from the data's kind of labels."""
    row, task = METHODS[experiment.method], "many" if dataset.multilabel else "one"
    if row.labels not in ("any", task):
        kind = {"many": "several labels", "one": "one label"}[task]
        fitting = ", ".join(methods_for(dataset.multilabel))
        raise UserError(
            f"method = '{row.name}': images of '{dataset.name}' have {kind} each; methods for that: {fitting}"
        )
    if (start := solver_of(experiment)) and METHODS[start.method].labels not in ("any", task):
        raise UserError(f"head-start = '{experiment.model.head_start}': it takes one label an image; choose ridge")
    lacks_bias = row.trains and not experiment.model.head_bias
    if dataset.multilabel and lacks_bias and {"aux_head", "personal_head"} & set(row.parts):
        raise UserError("head-bias = False: with several labels an image every class needs a bias; set head-bias: true")
    other, words = ("one", "one label") if dataset.multilabel else ("many", "several labels")
    for key in sorted(keys_where(lambda facts: facts.labels == other)):
        if experiment.has(key) and (value := experiment.dump()[key]) != experiment.default(key):
            raise UserError(f"{key} = {value!r}: it is for images with {words}; leave it out")
    if not dataset.multilabel and uses_attention(experiment):
        raise UserError("attention = True: one feature a class is for images with several labels; leave it out")


def check_all(experiments: Iterable[Experiment]) -> None:
    """Check every experiment as a simulation, and raise `UserError` with all that cannot be.

    Of experiments that differ by seed alone, the first is checked.
    """
    different = {str(e.replace(seed=0, run_name=None).dump()): e for e in reversed([*experiments])}

    def check(experiment: Experiment) -> None:
        check_simulated(experiment)
        check_feasible(experiment)

    run_all([lambda one=one: check(one) for one in reversed(different.values())])  # type: ignore[misc]
