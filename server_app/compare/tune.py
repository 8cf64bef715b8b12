"""Choosing hyper-parameters without the test set: grids over seeds, measured on held-out training images.

The runs are a comparison's: finished ones kept, tables of the same form. All of them have
`evaluate-on: validation`. The choice is the variant with the best mean over seeds of one metric:

    generic     balanced accuracy of the generic head that the method is judged by
    personal    mean over sites after the last stage before fine-tuning: realigned where the method realigns
    fine-tuned  mean over sites after fine-tuning
    both        the plain mean of generic and personal
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

from common.config import Experiment, build, canonical, check_key, load, parse_value
from common.config.layout import leaf
from common.config.rows import ROWS, keys_where
from common.errors import UserError, run_all, unknown
from common.methods import METHODS
from server_app.checks.override_checks import check_effective, check_own_runs, check_simulated
from server_app.compare.store import Store
from server_app.compare.studies import Variant, product
from server_app.engines.choices import TUNING_METRICS
from server_app.run.journal import percent

if TYPE_CHECKING:  # PyTorch comes with it, which a mistyped key need not wait for
    from server_app.compare.cells import Cell

Grids = Mapping[str, Sequence[Any]]

_OPTIONS = {"method": "--method", "seed": "--seeds"}


def tuning_experiment(config: str, given: Mapping[str, Any], method: str, base: Path) -> Experiment:
    """Return what every run starts from: the YAML and the overrides, measured on validation images.

    Args:
        config: the YAML file.
        given: flat overrides.
        method: a row of common/methods, or '' for the YAML's.
        base: the folder that relative paths start from.

    Raises:
        UserError: a key or value that cannot be, or that tuning decides itself.
    """
    for key, option in _OPTIONS.items():
        if key in given:
            raise UserError(f"{key} = {given[key]!r}: tuning takes {option} instead")
    check_own_runs(given, "tuning")
    if "evaluate-on" in given:
        why = "tuning measures validation images, never test images, or the choice would have seen them"
        raise UserError(f"evaluate-on = {given['evaluate-on']!r}: {why}; leave it out")
    if method and method not in METHODS:
        raise unknown("method", method, METHODS)
    sources = {"method": "--method", "evaluate-on": "fednc tune"}
    values = {**given, "method": method, "evaluate-on": "validation"}
    experiment = load(config, values, base=base, sources=sources, single=False)
    check_simulated(experiment)
    return experiment


def read_grids(words: Sequence[str], experiment: Experiment, given: Mapping[str, Any]) -> Grids:
    """Return the values of each key to vary, as the experiment holds them and each once.

    Args:
        words: 'key=value,value', one a key; none: the method's own, see `own_grids`.
        experiment: see `tuning_experiment`.
        given: its overrides, none of which may vary too.

    Raises:
        UserError: a word that is no grid, or a method without one of its own; names key and value.
    """
    grids: dict[str, Sequence[Any]] = {} if words else own_grids(experiment.method)
    if not words and not grids:
        known = ", ".join(sorted(method for method in METHODS if own_grids(method)))
        form = "--grid learning-rate=0.01,0.03,0.1"
        raise UserError(
            f"method = '{experiment.method}' has no grid of its own ({known} have); say what to vary, e.g. {form}"
        )
    for word, (key, values) in zip(
        words, run_all(partial(_read_grid, word, experiment) for word in words), strict=True
    ):
        if key in grids:
            raise UserError(f"--grid '{word}': {key} has a grid already; give all its values in one")
        grids[key] = values
    typed = {leaf(key): value for key, value in given.items() if value != ""}
    if twice := [key for key in grids if leaf(key) in typed]:
        raise UserError(
            f"{twice[0]} = {typed[leaf(twice[0])]!r}: {twice[0]} is in the grid too; leave out one of the two"
        )
    return grids


def selection_metric(by: str, experiment: Experiment, grids: Grids) -> str:
    """Return the metric that decides: the given one, if these runs have it, else the default.

    The default is generic for a method with a generic model, otherwise personal. Where the keys leave the generic
    model as it is (Ditto's λ, fine-tuning), it is the metric that they change.
    """
    method = METHODS[experiment.method]
    usual = "generic" if method.reported_head else "personal"
    changed = {ROWS[leaf(key)].facts.changes or usual for key in grids}
    metric = by or (changed.pop() if len(changed) == 1 else usual)
    if metric not in TUNING_METRICS:
        raise unknown("--by", metric, TUNING_METRICS)
    if metric in ("generic", "both") and not method.reported_head:
        raise UserError(f"--by {metric}: {method.title} has no generic model; allowed: personal, fine-tuned")
    if metric == "fine-tuned" and not all(grids.get("finetune-epochs", [experiment.personalise.finetune_epochs])):
        raise UserError("finetune-epochs = 0: there is no fine-tuned metric to judge by; set it to 1 or more")
    return metric


def tuning_cells(
    experiment: Experiment, grids: Grids, seeds: Sequence[int], given: Mapping[str, Any] = MappingProxyType({})
) -> "list[Cell]":
    """Return a run for every seed and combination; each seed holds out images of its own.

    The data are split here once a seed, so that what is wrong with them ends the command and not every run.

    Args:
        experiment: see `tuning_experiment`.
        grids: see `read_grids`; each key must act in some run.
        seeds: at least one.
        given: the overrides of the command line; each must act in some run, too.

    Raises:
        UserError: everything that is wrong with any of them.
    """
    from common.data import build_federation
    from server_app.checks.feasibility import check_all
    from server_app.compare.cells import Cell

    def cell(seed: int, variant: Variant) -> Cell:
        values = {**experiment.dump(), "seed": seed, **variant.overrides}
        return Cell(build(values, source="--grid"), variant.label)

    cells = run_all(partial(cell, seed, variant) for seed in seeds for variant in product(grids))
    experiments = [cell.experiment for cell in cells]
    run_all(
        [
            partial(check_effective, given, "command line", experiments),
            partial(check_effective, {key: list(values) for key, values in grids.items()}, "--grid", experiments),
            partial(check_all, experiments),
        ]
    )
    for seed in seeds:
        build_federation(experiment.replace(seed=seed))
    return cells


def ranking(cells: "Sequence[Cell]", by: str, folder: Path) -> "list[tuple[Cell, float | None]]":
    """Return a cell of each variant with its mean over seeds, best first; None where a run or metric is missing."""
    metrics: dict[str, list[float | None]] = {}
    store = Store(folder)
    for cell in cells:
        run = store.find(cell)
        metrics.setdefault(cell.variant, []).append(_metric(run.result["summary"], by) if run else None)
    cell_of = {cell.variant: cell for cell in reversed(cells)}
    ranked = [(cell_of[variant], _mean(found)) for variant, found in metrics.items()]
    return sorted(ranked, key=lambda pair: float("inf") if pair[1] is None else -pair[1])


def choice(cells: "Sequence[Cell]", grids: Grids, by: str, folder: Path) -> str:
    """Return the variants, best first, and the best one's lines for a YAML file.

    Only a variant whose runs of all seeds have finished is chosen; of equal ones, the first in the grid.
    """
    ranked = ranking(cells, by, folder)
    seeds = ", ".join(dict.fromkeys(str(cell.experiment.run.seed) for cell in cells))
    lines = [f"{by}, mean over seeds {seeds}, on validation images:"]
    lines += [f"{percent(mean):>9}  {cell.variant}" for cell, mean in ranked]
    best, metric = ranked[0]
    if metric is None:
        return "\n".join([*lines, "nothing to choose from: no variant has this metric for every seed"])
    if equal := [cell.variant for cell, mean in ranked[1:] if mean == metric]:
        lines.append(f"equal to the best: {'; '.join(equal)} (does the method use the grid's keys? see --by)")
    values = best.experiment.dump()
    tuned = {best.experiment.method: {leaf(key): values[leaf(key)] for key in grids}}
    pasted = yaml.safe_dump({"tuned": tuned}, sort_keys=False, allow_unicode=True)
    return "\n".join([*lines, f"best: {best.variant}; for the YAML file:", "", pasted])


def own_grids(method: str) -> dict[str, Sequence[Any]]:
    """Return the values that tuning tries of a method's own keys, and of those that its row names; {} if none."""
    own = {name: row.facts.grid for name, row in ROWS.items() if method in row.methods and row.facts.grid}
    return {**own, **METHODS[method].tunes}


def _data_keys() -> frozenset[str]:
    """Return the keys that say which images are trained on or measured; a size of the same images is none."""
    return keys_where(lambda facts: facts.data in ("images", "sites")) | {"data-dir"}


def _read_grid(word: str, experiment: Experiment) -> tuple[str, list[Any]]:
    key, _, text = word.partition("=")
    key = canonical(key)
    if key.startswith(f"{experiment.method}."):
        key = leaf(key)
    texts = [value.strip() for value in text.split(",")]
    if not all(texts) or "=" in text:
        raise UserError(f"--grid '{word}' is not of the form key=value,value; for several keys, repeat --grid")
    check_key(key, text, source="--grid")
    if key in _OPTIONS:
        raise UserError(f"--grid '{word}': tuning takes {_OPTIONS[key]} instead")
    if leaf(key) in _data_keys():
        raise UserError(f"--grid '{word}': {key} decides which images count, so metrics could not be compared")
    values = run_all(partial(_value, key, value, experiment) for value in texts)
    return key, [value for i, value in enumerate(values) if value not in values[:i]]


def _value(key: str, text: str, experiment: Experiment) -> Any:
    value = parse_value(text)
    found = build({**experiment.dump(), leaf(key): value}, source="--grid").dump()
    return found.get(leaf(key), value)  # another method's key is refused, by name, when no run has a use for it


def _metric(summary: Mapping[str, Any], by: str) -> float | None:
    stages = summary["personal"]
    metrics = {
        "generic": summary["headline"]["generic"],
        "personal": (stages.get("realigned") or stages.get("final") or {}).get("mean"),
        "fine-tuned": stages.get("finetuned", {}).get("mean"),
    }
    return _mean([metrics["generic"], metrics["personal"]]) if by == "both" else metrics[by]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
