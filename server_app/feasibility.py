"""What an experiment needs beyond its own keys, checked before anything starts: data that its method can learn from."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.backbones import check_image_size
from common.config import Experiment
from common.data import Dataset, Federation, build_federation
from common.effects import idle, idle_everywhere
from common.errors import MistakesError, UserError, all_of
from common.methods import METHODS
from common.model import attends, pick_device

# keys that only images with several labels have a use for
_SEVERAL_LABELS = ("realign-global", "multilabel-loss", "prior-temperature")


def check_simulated(experiment: Experiment) -> None:
    """Raise `UserError` for an experiment whose images are at real sites, where sites are to be simulated."""
    if experiment.partition == "deployed":
        raise UserError(
            "partition = 'deployed': the images are at real sites; run it with "
            "`fednc run … --superlink CONNECTION` (see docker/README.md), or set another partition to simulate sites"
        )


def check_feasible(experiment: Experiment) -> Federation:
    """Return the federation, whose data are fetched and checked, and which the method can learn from.

    Raises:
        UserError: missing or malformed data, a partition that cannot be had, a method for another kind of labels,
            images that are too small, or a device that is not there.
    """
    federation = build_federation(experiment)
    check_task(experiment, federation.dataset)
    check_image_size(experiment.backbone, federation.dataset.train.size)
    pick_device(experiment.device)
    return federation


def check_task(experiment: Experiment, dataset: Dataset) -> None:
    """Raise `UserError` where the method cannot learn from the data's kind of labels."""
    row, task = METHODS[experiment.method], "many" if dataset.multilabel else "one"
    if row.labels not in ("any", task):
        kind = {"many": "several labels", "one": "one label"}[task]
        fitting = ", ".join(name for name, method in METHODS.items() if method.labels in ("any", task))
        raise UserError(
            f"method = '{row.name}': images of '{dataset.name}' have {kind} each; methods for that: {fitting}"
        )
    if dataset.multilabel and not experiment.head_bias and {"aux_head", "personal_head"} & set(row.parts):
        raise UserError("head-bias = False: with several labels an image every class needs a bias; set head-bias: true")
    if dataset.multilabel:
        return
    for key in _SEVERAL_LABELS:
        if (value := getattr(experiment, key.replace("-", "_"))) != experiment.default(key):
            raise UserError(f"{key} = {value!r}: it is for images with several labels; leave it out")
    if attends(experiment):
        raise UserError("attention = True: one feature a class is for images with several labels; leave it out")


def check_all(experiments: Iterable[Experiment]) -> None:
    """Check every experiment as a simulation, and raise `UserError` with all that cannot be.

    Of experiments that differ by seed alone, the first is checked.
    """
    different = {str(e.model_copy(update={"seed": 0, "run_name": None}).dump()): e for e in reversed([*experiments])}

    def check(experiment: Experiment) -> None:
        check_simulated(experiment)
        check_feasible(experiment)

    all_of([lambda one=one: check(one) for one in reversed(different.values())])  # type: ignore[misc]


def check_acting(given: Mapping[str, Any], source: str, experiments: Sequence[Experiment]) -> None:
    """Raise `UserError` for keys that were given and act in none of the experiments.

    Args:
        given: key → value, or values.
        source: what errors name.
        experiments: that have those keys.
    """
    needed = {key: idle_everywhere(key, experiments) for key in given}
    if found := [(source, idle(key, given[key], words)) for key, words in needed.items() if words]:
        raise MistakesError(found)
