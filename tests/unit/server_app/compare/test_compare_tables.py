"""The tables of a comparison: what has several labels an image beside macro AUC, and how it was dealt."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.config import Experiment
from common.data import build_federation
from common.wire import MULTILABEL_METRICS
from server_app.compare import results as compare_results
from server_app.compare.runner import Cell
from server_app.compare.tables import Entry, as_csv, further_rows, headline_rows, rows_of

Tiny = Callable[..., Experiment]


def several(level: float, undefined: float) -> dict[str, Any]:
    """Return a finished FedAvg whose metrics are `level`, but for the count of classes without AUC."""
    figures = dict.fromkeys(MULTILABEL_METRICS, level) | {"undefined_auc": undefined}
    return {
        "experiment": {},
        "data": "",
        "versions": {"code": "f00d"},
        "summary": {
            "generic": {"aux_head": figures | {"score": level, "many": level, "medium": level, "few": None}},
            "personal": {"final": {"mean": level, "means": figures}},
            "cost": {"seconds": 1.0, "bytes_down": 1e6, "bytes_up": 1e6},
        },
        "curves": {"aux_head": [[1, level]]},
    }


@pytest.fixture
def entry(tiny_for: Tiny) -> Entry:
    cells = tuple(Cell(tiny_for("fedavg", multilabel=True, seed=seed)) for seed in (0, 1))
    return Entry(cells, (several(0.5, 2.0), several(0.7, 3.0)))


def test_every_figure_of_several_labels_is_in_a_table(entry: Entry) -> None:
    (row,), (further,) = rows_of([entry]), further_rows([entry])
    assert row["GM"] == row["mAP"] == row["PM F1 tuned"] == "60.0 ± 14.1" and row["few"] == "–"
    (short,) = headline_rows([row, {**row, "head": "another"}])
    assert short == {title: row[title] for title in short} and {"method", "GM", "mAP", "PM"} <= short.keys()
    shares = [value for title, value in further.items() if title not in ("method", *_COUNTS)]
    assert len(shares) == 9 and set(shares) == {"60.0 ± 14.1"}
    assert [further[title] for title in _COUNTS] == ["2.5", "2.5"]
    lines = list(csv.DictReader(io.StringIO(as_csv([entry]))))
    for model in ("generic", "personal"):
        for figure in MULTILABEL_METRICS:
            values = [float(line[figure]) for line in lines if line["model"] == model]
            assert values == ([2.0, 3.0] if figure == "undefined_auc" else [0.5, 0.7])


_COUNTS = ("GM classes without AUC", "PM classes without AUC")


def test_the_table_says_how_labels_were_dealt(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_results, "read_entries", lambda cells, folder: [entry])
    markdown = compare_results.write_results(entry.cells, tmp_path)
    for cell in entry.cells:
        dealt = build_federation(cell.experiment).partition_report
        assert dealt is not None
        assert f"seed {cell.experiment.run.seed}: {100 * dealt['missing']:.1f} %, 0.0 %, " in markdown
