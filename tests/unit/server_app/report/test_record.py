"""What a reader of a run's folder finds of confusion and of classes at sites."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import Experiment
from common.data import build_federation
from server_app.engines.engines import run_local
from server_app.generic import evaluation
from server_app.report.record import read_run


def test_a_run_counts_confusion_in_the_pass_that_measures(
    tiny: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    real = evaluation.feature_batches

    def counted(*arguments: Any) -> Any:
        passes.append(len(arguments))
        return real(*arguments)

    monkeypatch.setattr(evaluation, "feature_batches", counted)
    experiment = tiny(method="fedloge", rounds=2, evaluate_every=2, run_name="once")
    record = read_run(run_local(experiment))
    assert len(passes) == 2  # before the first round, and after the last
    federation = build_federation(experiment)
    totals = np.bincount(federation.dataset.test.labels, minlength=10)
    assert record.heads == ["aux_head", "aux_head_realigned", "frame"]
    for head in record.heads:
        confusion, event = record.confusion(head), record.generic(head)
        assert event is not None and not any("confusion" in e for e in record.of("generic", stage="training"))
        rows = [sum(images for (true, _), images in confusion.items() if true == c) for c in range(10)]
        assert rows == totals.tolist()
        assert event["per_class"] == [confusion.get((c, c), 0) / totals[c] for c in range(10)]
    sites = record.site_class_accuracy("final")
    assert list(sites) == list(federation.site_names)
    for name, counts in zip(federation.site_names, federation.test_counts, strict=True):
        assert [value is None for value in sites[name]] == (counts == 0).tolist()
        hits = sum(n * value for n, value in zip(counts, sites[name], strict=True) if value is not None)
        assert hits / counts.sum() == pytest.approx((record.personal("final") or {})["sites"][name]["accuracy"])


def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_run(tmp_path).confusion("aux_head") == {} == read_run(tmp_path).site_class_accuracy("final")
    lines: list[dict[str, Any]] = [
        {"event": "generic", "round": 1, "stage": "training", "head": "aux_head", "confusion": [[0, 0, 3]]},
        {"event": "generic", "round": 2, "stage": "final", "head": "frame", "confusion": [[0, 1], [1, 1, 2]]},
        {"event": "personal", "round": 2, "stage": "final", "mean": 0.5, "per_class": {"b": [1, None], "a": [0.5, 0]}},
        {"event": "personal", "round": 2, "stage": "realigned", "mean": 0.5},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = read_run(tmp_path)
    assert record.confusion("aux_head") == {}  # not the end
    assert record.confusion("frame") == {(1, 1): 2}
    assert record.site_class_accuracy("final") == {"a": [0.5, 0.0], "b": [1.0, None]}
    assert record.site_class_accuracy("realigned") == {} == record.site_class_accuracy("finetuned")
