"""Checks a coordinator's experiment against the site's policy, before any image is read."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from client_app.methods import load as load_method
from client_app.site.config import Policy
from common.config import Experiment
from common.errors import RefusalError
from common.head_start import all_extras
from common.methods import Method
from common.rates import finetune_rate
from common.wire import CLASS_METRICS, STAGE_METRICS


def check_policy(policy: Policy, experiment: Experiment, row: Method) -> None:
    """Refuse an experiment that goes beyond the site's policy.

    Args:
        policy: the site's.
        experiment: the coordinator's.
        row: its method's.

    Raises:
        RefusalError: naming what is refused and the key of the site's policy that forbids it.
    """
    if row.name not in policy.methods:
        raise _refused(f"method = '{row.name}'", f"its policy's methods are {', '.join(policy.methods) or 'none'}")
    if wanted := [name for name in all_extras(experiment) if name not in policy.extras]:
        of_rounds = {*wanted} & {*row.extras}
        what = f"method = '{row.name}'" if of_rounds else f"head-start = '{experiment.model.head_start}'"
        raise _refused(
            f"{what} sends {', '.join(wanted)} beside the weights",
            f"its policy's extras are {', '.join(policy.extras) or 'none'}",
        )
    method = load_method(row.name)
    epochs = sum(phase.epochs for phase in method.phases(experiment))
    if epochs > policy.max_epochs:
        raise _refused(f"{epochs} epochs a round", f"its policy's max-epochs is {policy.max_epochs}")
    phases = method.finetuning(experiment) if experiment.personalise.finetune_epochs else None
    epochs = sum(phase.epochs for phase in phases) if phases else experiment.personalise.finetune_epochs
    if epochs > policy.max_epochs:
        raise _refused(f"{epochs} epochs of fine-tuning", f"its policy's max-epochs is {policy.max_epochs}")
    if policy.max_rounds is not None and experiment.rounds.rounds > policy.max_rounds:
        raise _refused(f"rounds = {experiment.rounds.rounds}", f"its policy's max-rounds is {policy.max_rounds}")
    train = experiment.train
    rates = {"learning rate": train.learning_rate}  # what a round's factor makes of it is never more
    if experiment.personalise.finetune_epochs:
        rates["learning rate of fine-tuning"] = finetune_rate(experiment)
    for what, rate in rates.items():
        largest = rate * max(train.head_rate, train.backbone_rate)
        if policy.max_learning_rate is not None and largest > policy.max_learning_rate:
            why = f"its policy's max-learning-rate is {policy.max_learning_rate:g}"
            raise _refused(f"a {what} of {largest:g}", why)


def check_class_sizes(policy: Policy, experiment: Experiment, counts: Iterable[int]) -> None:
    """Refuse to send extras about classes of few images, where each could be one person's.

    Args:
        policy: the site's.
        experiment: the coordinator's.
        counts: training images of each class.

    Raises:
        RefusalError: a class that the site has is smaller than its policy's min-class-size.
    """
    extras = all_extras(experiment)
    if extras and any(0 < count < policy.min_class_size for count in counts):
        disclosed = ", ".join(extras)
        raise _refused(
            f"to send {disclosed}", f"a class has fewer than its policy's min-class-size {policy.min_class_size}"
        )


def allowed_metrics(policy: Policy, metrics: Mapping[str, float | int]) -> dict[str, float | int]:
    """Return a reply's metrics without the losses, and the metrics of any stage, that the policy does not let out."""

    def disclosed(name: str) -> bool:
        kind = name.split("-", 1)[0]
        return not (kind == "loss" or name in STAGE_METRICS) or kind in policy.metrics

    return {name: value for name, value in metrics.items() if disclosed(name)}


def allowed_class_metrics(
    policy: Policy,
    by_class: Mapping[str, npt.NDArray[np.float64]],
    sizes: npt.NDArray[np.int64],
    metrics: Collection[str],
) -> dict[str, npt.NDArray[np.float64]]:
    """Return stage → metric by class [C] that the policy lets out: none unless its extras name them.

    They tell which classes the site has.

    Args:
        policy: the site's.
        by_class: stage → [C].
        sizes: test images of each class [C]; one with fewer than the policy's min-class-size becomes nan, as one
            without any is.
        metrics: names of those that leave: a stage whose hits or macro AUC stay has none by class either.
    """
    if CLASS_METRICS not in policy.extras:
        return {}
    reported = {name.split("-", 1)[1] for name in metrics if name.startswith(("hits-", "macro_auc-"))}
    kept_back = sizes < policy.min_class_size
    return {stage: np.where(kept_back, np.nan, values) for stage, values in by_class.items() if stage in reported}


def _refused(what: str, why: str) -> RefusalError:
    return RefusalError(f"this site refuses {what}: {why}")
