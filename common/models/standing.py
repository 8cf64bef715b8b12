"""What of a backbone stands still: stages before `train-from`, and BatchNorm's statistics where `norm` is frozen."""

import math

from torch import nn

from common.config import Experiment
from common.config.sections.conditions import HEAD, norm_kind
from common.config.values import Values
from common.errors import UserError, nearest
from common.models.backbones import Backbone, build_backbone

Norm = nn.modules.batchnorm._BatchNorm
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_MOST_GROUPS = 32  # of GroupNorm's paper, https://arxiv.org/abs/1803.08494


def make_stand(body: Backbone, experiment: Experiment) -> Backbone:
    """Freeze in place what the experiment says, with GroupNorm for BatchNorm where it says so; return the backbone."""
    kind = norm_kind(Values(experiment))
    if kind == "group":
        replace_norms(body)
    state = body.state_dict()
    later = _from_stage(body, experiment.train_from)
    frozen = {name for name in state if later is not None and not name.startswith(later)}
    for name, parameter in body.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    norms = [name for name, part in body.named_modules() if isinstance(part, Norm)]
    statistics = {name for name in state if name.rpartition(".")[2] in STATISTICS}
    body.fixed = frozenset(frozen | (statistics if kind == "frozen" else set()))
    stages = [f"{stage}." for stage in body.stage_names()] if later is not None else []
    before = tuple(stage for stage in stages if not stage.startswith(later or ()))
    body.trunk_precision = experiment.model.trunk_precision
    body.trunk = _steps_before(body, experiment.train_from)
    body.still = tuple(norms if kind == "frozen" else (name for name in norms if f"{name}.".startswith(before)))
    return body


def check_train_from(experiment: Experiment) -> None:
    """Raise `UserError` where `train-from` names no stage of the backbone; all of its stages are then named."""
    wanted = experiment.train_from
    if wanted not in (None, HEAD):
        names = build_backbone(experiment.model.backbone, 3, experiment.model.width).stage_names()
        if wanted not in names:
            hint = f" (did you mean '{near}'?)" if (near := nearest(str(wanted), names)) else ""
            raise UserError(
                f"train-from = '{wanted}': backbone '{experiment.model.backbone}' has no such stage{hint}; "
                f"known: {', '.join([*names, HEAD])}"
            )


def replace_norms(module: nn.Module) -> None:
    """Put a GroupNorm in the place of every BatchNorm: up to 32 groups, as many as divide the channels."""
    for name, part in module.named_children():
        if isinstance(part, Norm):
            groups = math.gcd(_MOST_GROUPS, part.num_features)
            setattr(module, name, nn.GroupNorm(groups, part.num_features, part.eps))
        else:
            replace_norms(part)


def _steps_before(body: Backbone, wanted: str | None) -> int:
    """Return how many leading steps stand still: none where everything trains, all of them for `head`."""
    steps = list(body.steps())
    if wanted in (None, HEAD):
        return len(steps) if wanted else 0
    return min(steps.index(str(wanted)), body.map_steps())


def _from_stage(body: Backbone, wanted: str | None) -> tuple[str, ...] | None:
    """Return how names begin that are of the stage or a later one; None: everything trains."""
    names = body.stage_names()
    if wanted is None:
        return None
    later = () if wanted == HEAD else (*names[names.index(wanted) :], *body.pooling_names())
    return tuple(f"{name}." for name in later)
