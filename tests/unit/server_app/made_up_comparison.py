"""Made-up results of methods, as a comparison finds them."""

from collections.abc import Callable
from typing import Any

from common.config import Experiment
from common.methods import METHODS
from server_app.compare.cells import Cell
from server_app.compare.tables import Entry

Tiny = Callable[..., Experiment]


def result(method: str, level: float = 0.5, code: str = "f00d" * 8) -> dict[str, Any]:
    """Return a finished run of a method whose last metrics are `level`."""
    row = METHODS[method]
    heads = dict.fromkeys(filter(None, (row.generic_head, row.reported_head)))
    figures = dict.fromkeys(("accuracy", "balanced_accuracy", "many", "medium", "few"), level)
    stages = ("final", "realigned", "finetuned") if row.realigns else ("final", "finetuned")
    curve = [[0, 0.1], [1, level / 2], [2, level]]
    return {
        "versions": {"torch": "2.15", "code": code},
        "summary": {
            "generic": dict.fromkeys(heads, figures),
            "personal": {stage: {"mean": level + 0.1 * i} for i, stage in enumerate(stages)},
            "cost": {"seconds": 90.0, "bytes_down": 1.5e6, "bytes_up": 2.5e6},
        },
        "curves": dict.fromkeys(heads, curve) | {"personal": curve[:-1]},
    }


def entry(tiny: Tiny, method: str, *results: dict[str, Any] | None, variant: str = "", **changes: Any) -> Entry:
    cells = (Cell(tiny(method=method, seed=seed, **changes), variant) for seed in range(len(results)))
    return Entry(tuple(cells), results)
