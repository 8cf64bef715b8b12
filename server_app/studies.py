"""FedLoGe's ablations as data: each study is a list of variants, each variant a few overrides of the experiment.

Realignment before and after is measured in every run, so GA-FR × LA-FR needs no variants of its own: compare the
rows ψ and ψ realigned, and the columns personal and realigned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Variant:
    """One row of an ablation.

    Attributes:
        label: as the table shows it; also part of the result's file name.
        overrides: keys of the experiment.
    """

    label: str
    overrides: Mapping[str, Any]


def sweep(key: str, *values: Any) -> tuple[Variant, ...]:
    """Return one variant a value of a single key."""
    return tuple(Variant(f"{key}={value}", MappingProxyType({key: value})) for value in values)


STUDIES: dict[str, tuple[Variant, ...]] = {
    "table3": sweep("frame", "etf", "sparse_etf"),
    "table8": (
        Variant("cross-entropy", MappingProxyType({})),
        Variant("projection", MappingProxyType({"frame-projection": True})),
        Variant("dot regression", MappingProxyType({"frame-loss": "dot-regression"})),
        Variant("both", MappingProxyType({"frame-projection": True, "frame-loss": "dot-regression"})),
    ),
    "table9": sweep("frame", "sparse_etf", "xavier", "gaussian", "uniform", "orthogonal", "kaiming"),
    "table7": sweep("realign", "paper", "sum", "product", "none"),
    "table11": (
        *sweep("participation", 0.3, 1.0),
        Variant("sites=100", MappingProxyType({"sites": 100, "min-site-size": 1})),
    ),
    # sparsity .6 is also the norm sweep's 1.0: both are the defaults
    "fig4": (*sweep("sparsity", 0.0, 0.2, 0.4, 0.6, 0.8), *sweep("frame-norm", 0.05, 0.1, 0.5, 2.0)),
    "fig5": sweep("finetune-epochs", 1, 5, 10, 20),
}
