"""Ablations and tuning grids as data: lists of variants, each variant a few overrides of the experiment.

Realignment before and after is measured in every run, so GA-FR × LA-FR needs no variants of its own: compare the
rows ψ and ψ realigned, and the columns personal and realigned.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Variant:
    """One row of an ablation, or one point of a grid.

    Attributes:
        label: as the table shows it; also part of the run's name.
        overrides: keys of the experiment.
    """

    label: str
    overrides: Mapping[str, Any]


PLAIN = Variant("", MappingProxyType({}))  # a method as the YAML has it


def sweep(key: str, *values: Any) -> tuple[Variant, ...]:
    """Return one variant a value of a single key."""
    return tuple(Variant(f"{key}={value}", MappingProxyType({key: value})) for value in values)


def product(grids: Mapping[str, Sequence[Any]]) -> tuple[Variant, ...]:
    """Return one variant a combination of the keys' values; the last key varies fastest."""
    variants = []
    for values in itertools.product(*grids.values()):
        overrides = dict(zip(grids, values, strict=True))
        label = ", ".join(f"{key}={value}" for key, value in overrides.items())
        variants.append(Variant(label, MappingProxyType(overrides)))
    return tuple(variants)


def ablations(changes: Mapping[str, Any]) -> tuple[Variant, ...]:
    """Return one variant a subset of the changes, the smallest first: nothing changed, each alone, …, all together."""
    keys = [kept for count in range(len(changes) + 1) for kept in itertools.combinations(changes, count)]
    return tuple(
        Variant(", ".join(f"{key}={changes[key]}" for key in kept), MappingProxyType({k: changes[k] for k in kept}))
        for kept in keys
    )


STUDIES: dict[str, tuple[Variant, ...]] = {
    "table3": sweep("frame", "etf", "sparse_etf"),
    "table8": tuple(
        Variant(label, MappingProxyType({"frame-projection": projection, "frame-loss": loss}))
        for label, projection, loss in (
            ("cross-entropy", False, "cross-entropy"),
            ("projection", True, "cross-entropy"),
            ("dot regression", False, "dot-regression"),
            ("both", True, "dot-regression"),
        )
    ),
    "table9": sweep("frame", "sparse_etf", "xavier", "gaussian", "uniform", "orthogonal", "kaiming"),
    "table7": sweep("realign", "paper", "distribution", "sum", "product", "none"),
    "table11": (
        *sweep("participation", 0.3, 1.0),
        Variant("sites=100", MappingProxyType({"sites": 100, "min-site-size": 1})),
    ),
    # each sweep at the paper's own value of the other key, whatever the configuration has
    "fig4": (
        *product({"sparsity": (0.0, 0.2, 0.4, 0.6, 0.8), "frame-norm": (1.0,)}),
        *product({"sparsity": (0.6,), "frame-norm": (0.05, 0.1, 0.5, 2.0)}),
    ),
    "fig5": sweep("finetune-epochs", 1, 5, 10, 20),
    "wire": sweep("wire", "single", "half"),
    # several labels an image
    "attention": sweep("attention", False, True),
    "fednca_ml": (
        PLAIN,
        *sweep("attention", False),
        *sweep("frame-trains", True),
        *sweep("suppression-weight", 0.0),
        *sweep("clustering-weight", 0.0),
        *product({"suppression-weight": (0.0,), "clustering-weight": (0.0,)}),
        *sweep("query-frame", "padded_etf", "sparse_etf"),
    ),
    # with and without: attention × the fixed ETF × each regulariser
    "fednca_ml_grid": ablations(
        {"attention": False, "frame-trains": True, "suppression-weight": 0.0, "clustering-weight": 0.0}
    ),
    "fedloge_ml": (
        PLAIN,
        *sweep("attention", False),
        *sweep("frame", "etf"),
        *sweep("prior-temperature", 0.0),
        *sweep("realign-global", "none", "prior"),
        *sweep("realign-bias", "scale"),
    ),
    "finetuned_ml": sweep("finetune-epochs", 5),
}

# which methods a study is of, where --methods does not say: FedLoGe, but for these
STUDY_METHODS: dict[str, tuple[str, ...]] = {
    "attention": ("fedavg", "fedprox", "fedbn", "fedper", "fedrep", "ditto", "fedrod"),
    "fednca_ml": ("fednca_ml",),
    "fednca_ml_grid": ("fednca_ml",),
    "fedloge_ml": ("fedloge_ml",),
    "finetuned_ml": ("fedavg", "fednca_ml", "fedloge_ml"),
}


def methods_of(study: str) -> tuple[str, ...]:
    """Return the methods that a study is of."""
    return STUDY_METHODS.get(study, ("fedloge",))
