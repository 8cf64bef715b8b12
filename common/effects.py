"""With what each key acts: a key that was given and changes nothing is a misunderstanding, and is refused by name.

A row for each key that does not always act. Whole experiments are never refused for it: a YAML file that several
methods share, and every resolved configuration, hold keys that one run alone does not read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from common.errors import shown
from common.methods import METHODS

if TYPE_CHECKING:
    from common.experiment import Experiment


class Condition(NamedTuple):
    """What must hold for a key to act.

    Attributes:
        words: as a person reads it.
        holds: tells it of an experiment.
    """

    words: str
    holds: Callable[["Experiment"], bool]


@dataclass(frozen=True)
class Acts:
    """With what a key acts.

    Attributes:
        when: of the other keys, whatever the method; None: always.
        methods: the methods that read the key; empty: all.
        inside: of the method together with other keys; None: always.
        elsewhere: whether a command other than `run` sets what it needs, so that a file may hold it.
    """

    when: Condition | None = None
    methods: tuple[str, ...] = ()
    inside: Condition | None = None
    elsewhere: bool = False


def _is(key: str, *values: object) -> Condition:
    name = key.replace("-", "_")
    return Condition(f"{key}: {' or '.join(map(str, values))}", lambda e: getattr(e, name) in values)


def _set(key: str) -> Condition:
    name = key.replace("-", "_")
    return Condition(f"{key} above 0", lambda e: bool(getattr(e, name)))


def _fixed_frame(e: "Experiment") -> str:
    """Return which frame the run has, as `common.models.model.frame_kind` (which needs torch) does."""
    row = METHODS[e.method]
    kind = row.frame or ("query" if _attends(e) else "")
    return {"choice": e.frame, "query": e.query_frame}.get(kind, kind)


def _attends(e: "Experiment") -> bool:
    return METHODS[e.method].attends if e.attention is None else e.attention


_NORMED, _EXACT = ("etf", "sparse_etf"), ("etf", "padded_etf", "")
_CHOOSE = tuple(name for name, row in METHODS.items() if row.frame == "choice")
_REALIGN = tuple(name for name, row in METHODS.items() if row.realigns)
_DEALT = _is("partition", "dirichlet", "iid")
_SIMULATED = _is("partition", "dirichlet", "iid", "natural")
_FINETUNED = _set("finetune-epochs")
_SPARSE = Condition("a frame other than etf", lambda e: e.frame != "etf" or e.query_frame == "sparse_etf")
_SOLVED = Condition("frame (or query-frame): sparse_etf", lambda e: "sparse_etf" in (e.frame, e.query_frame))
_MMA = Condition("frame-solver: mma", lambda e: e.frame_solver == "mma" and _SOLVED.holds(e))
_HAS_SPARSE = Condition("a method with a sparse frame", lambda e: _fixed_frame(e) not in _EXACT)
_HAS_SOLVED = Condition("a method with a sparse_etf", lambda e: _fixed_frame(e) == "sparse_etf")
_ASKS = Condition("attention, or method fednca_ml", lambda e: METHODS[e.method].frame in ("", "query") and _asks(e))


def _asks(e: "Experiment") -> bool:
    return METHODS[e.method].frame == "query" or _attends(e)


ACTS: dict[str, Acts] = {
    "site-key": Acts(_is("partition", "natural")),
    "composites-test": Acts(_set("composites")),
    "composite-single-share": Acts(_set("composites")),
    "composite-canvas": Acts(_set("composites")),
    "head-class-size": Acts(_SIMULATED),
    "imbalance-factor": Acts(_SIMULATED),
    "classes": Acts(_is("partition", "deployed")),
    "pixel-mean": Acts(_is("partition", "deployed")),
    "pixel-std": Acts(_is("partition", "deployed")),
    "sites": Acts(_is("partition", "dirichlet", "iid", "deployed")),
    "dirichlet": Acts(_is("partition", "dirichlet")),
    "label-rule": Acts(_is("partition", "dirichlet")),
    "keep-patients": Acts(_DEALT),
    "min-site-size": Acts(_SIMULATED),
    "local-test": Acts(_SIMULATED),
    "evaluate-on": Acts(_SIMULATED),
    "validation-share": Acts(_is("evaluate-on", "validation"), elsewhere=True),  # `fednc tune` sets it
    "frame": Acts(methods=_CHOOSE),
    "frame-solver": Acts(_SOLVED, inside=_HAS_SOLVED),
    "sparsity": Acts(_SPARSE, inside=_HAS_SPARSE),
    "frame-norm": Acts(_is("frame", *_NORMED), methods=_CHOOSE),
    "frame-loss": Acts(methods=("fedloge",)),
    "frame-projection": Acts(methods=("fedloge",)),
    "mma-optimizer": Acts(_MMA, inside=_HAS_SOLVED),
    "mma-learning-rate": Acts(_MMA, inside=_HAS_SOLVED),
    "mma-steps": Acts(_MMA, inside=_HAS_SOLVED),
    "attention-heads": Acts(_is("attention", True, None), inside=Condition("attention", _attends)),
    "query-frame": Acts(inside=_ASKS),
    "frame-trains": Acts(methods=("fednca_ml", "fedloge_ml")),
    "suppression-weight": Acts(methods=("fednca_ml",)),
    "clustering-weight": Acts(methods=("fednca_ml",)),
    "prior-temperature": Acts(methods=("fedrod", "fedloge_ml")),
    "realign-global": Acts(methods=("fedloge_ml",)),
    "fedprox-mu": Acts(methods=("fedprox",)),
    "ditto-lambda": Acts(methods=("ditto",)),
    "fedrep-head-epochs": Acts(methods=("fedrep",)),
    "fedrep-body-epochs": Acts(methods=("fedrep",)),
    "logit-adjustment": Acts(methods=("fedavg_la", "fedavg_la_global")),
    "etf-temperature": Acts(methods=("fedetf",)),
    "ratio-alpha": Acts(methods=("ratio_loss",)),
    "ratio-beta": Acts(methods=("ratio_loss",)),
    "ratio-images": Acts(methods=("ratio_loss",)),
    "ratio-cap": Acts(methods=("ratio_loss",)),
    "creff-features": Acts(methods=("creff",)),
    "creff-match-steps": Acts(methods=("creff",)),
    "creff-match-rate": Acts(methods=("creff",)),
    "creff-retrain-epochs": Acts(methods=("creff",)),
    "creff-retrain-rate": Acts(methods=("creff",)),
    "realign": Acts(methods=_REALIGN),
    "realign-bias": Acts(_is("head-bias", True), methods=_REALIGN),
    "finetune-learning-rate": Acts(_FINETUNED),
    "rest-rounds": Acts(_set("rest-after")),
    "trimmed-share": Acts(_is("aggregation", "trimmed-mean")),
    "wrong-sites": Acts(_is("aggregation", "multi-krum")),
}

# keys that some methods alone read: another's result does not depend on them
METHOD_KEYS: dict[str, tuple[str, ...]] = {key: row.methods for key, row in ACTS.items() if row.methods}


def without_effect(key: str, experiment: "Experiment", whatever_method: bool = False) -> str:
    """Return with what a key acts, if it changes nothing in this experiment; '' if it acts, or has its default.

    Args:
        key: of the experiment.
        experiment: that holds it.
        whatever_method: to look at the other keys alone, since several methods share the experiment.
    """
    row, name = ACTS.get(key, Acts()), key.replace("-", "_")
    if getattr(experiment, name) == experiment.default(key):
        return ""
    if row.when and not row.when.holds(experiment):
        return row.when.words
    if whatever_method:
        return ""
    if row.methods and experiment.method not in row.methods:
        return f"method: {' or '.join(row.methods)}"
    return row.inside.words if row.inside and not row.inside.holds(experiment) else ""


def idle(key: str, value: object, needed: str) -> str:
    """Return the words for a key without effect; `needed` is what `without_effect` returned."""
    return f"{key} = {shown(value)}: has no effect here, it acts with {needed}; leave it out"


def idle_everywhere(key: str, experiments: Sequence["Experiment"]) -> str:
    """Return with what a key acts, if it changes nothing in any of these experiments; '' if all have its default."""
    given = [e for e in experiments if getattr(e, key.replace("-", "_")) != e.default(key)]
    needed = [without_effect(key, experiment) for experiment in given]
    return needed[0] if needed and all(needed) else ""
