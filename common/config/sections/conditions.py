"""Conditions under which keys act, where it takes more than one other key to say so."""

from typing import Any

from common.architectures import NO_WEIGHTS
from common.keys import Condition, is_one_of
from common.methods import METHODS

DEALT = is_one_of("partition", "dirichlet", "iid")
SIMULATED = is_one_of("partition", "dirichlet", "iid", "natural")
HEAD = "head"  # `train-from`: of the model, heads alone
_EXACT = ("etf", "padded_etf", "")  # frames without a share of zeros to choose


def uses_attention(e: Any) -> bool:
    """Whether label-aware attention gives one feature a class, of the values of all keys."""
    return METHODS[e.method].uses_attention if e.attention is None else bool(e.attention)


def frame_kind(e: Any) -> str:
    """Return which fixed frame a run needs, '' for none, of the values of all keys."""
    kind = METHODS[e.method].frame or ("query" if uses_attention(e) else "")
    return {"choice": str(e.frame), "query": str(e.query_frame)}.get(kind, kind)


def norm_kind(e: Any) -> str:
    """Return what BatchNorm does, of the values of all keys: with pretrained weights its statistics stand still."""
    return str(e.norm or ("batch" if e.weights == NO_WEIGHTS else "frozen"))


def train_from(e: Any) -> str | None:
    """Return the stage before which the backbone stands still, of the values of all keys: all where none trains."""
    return e.train_from if METHODS[e.method].trains else HEAD


def _uses_query_frame(e: Any) -> bool:
    return METHODS[e.method].frame == "query" or (METHODS[e.method].frame == "" and uses_attention(e))


USES_ATTENTION = Condition("attention", uses_attention)
USES_QUERY_FRAME = Condition("attention, or method fednca_ml", _uses_query_frame)
_OWN_LOSSES = " or ".join(name for name, row in METHODS.items() if row.own_loss)
USES_LOSS = Condition(
    f"a method other than {_OWN_LOSSES}, or finetune-epochs above 0",
    lambda e: not METHODS[e.method].own_loss or e.finetune_epochs > 0,
)
SPARSE = Condition("a frame other than etf", lambda e: e.frame != "etf" or e.query_frame == "sparse_etf")
SOLVED = Condition("frame (or query-frame): sparse_etf", lambda e: "sparse_etf" in (e.frame, e.query_frame))
MMA = Condition("frame-solver: mma", lambda e: e.frame_solver == "mma" and SOLVED.holds(e))
HAS_SPARSE = Condition("a method with a sparse frame", lambda e: frame_kind(e) not in _EXACT)
HAS_SOLVED = Condition("a method with a sparse_etf", lambda e: frame_kind(e) == "sparse_etf")
HAS_TRUNK = Condition("train-from", lambda e: train_from(e) is not None)
CACHES_TRUNK = Condition("train-from and trunk-cache", lambda e: train_from(e) is not None and e.trunk_cache)
STARTS_SOLVED = is_one_of("head-start", "ncm", "ridge")
HAS_WEIGHTS = Condition("weights", lambda e: e.weights != NO_WEIGHTS)
