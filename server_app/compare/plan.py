"""Which runs a comparison has: methods × variants × seeds, all of them checked before the first one starts."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from common.errors import run_all
from server_app.checks.feasibility import check_all
from server_app.checks.override_checks import check_effective
from server_app.compare.cells import Cell
from server_app.compare.studies import PLAIN, STUDIES, Variant, methods_of


def plan_cells(
    cell_of: Callable[[str, int, Variant], Cell],
    given: Mapping[str, Any],
    seeds: Sequence[int],
    methods: Sequence[str],
    studies: Sequence[str],
) -> list[Cell]:
    """Return a cell for every seed, method and variant, each once.

    Args:
        cell_of: makes the cell of a method, seed and variant.
        given: the overrides of the command line; each must act in some cell.
        seeds: at least one.
        methods: none: each study's own.
        studies: names of `STUDIES`; none: the methods as the YAML has them.

    Raises:
        UserError: everything that is wrong with any of them.
    """
    studied = [(study, name) for study in studies for name in methods or methods_of(study)]
    rows = [(name, variant) for study, name in studied for variant in STUDIES[study]]
    rows = rows or [(name, PLAIN) for name in methods]
    cells = run_all(partial(cell_of, name, seed, variant) for seed in seeds for name, variant in rows)
    cells = list({cell.stem: cell for cell in cells}.values())  # studies may share variants
    experiments = [cell.experiment for cell in cells]
    checks: list[Callable[[], None]] = [partial(check_effective, given, "command line", experiments)]
    for study, name in studied:
        labels = {variant.label for variant in STUDIES[study]}
        own = [cell.experiment for cell in cells if cell.experiment.method == name and cell.variant in labels]
        varied = {key: value for variant in STUDIES[study] for key, value in variant.overrides.items()}
        checks.append(partial(check_effective, varied, f"--study {study} of {name}", own))
    checks.append(partial(check_all, experiments))
    run_all(checks)
    return cells
