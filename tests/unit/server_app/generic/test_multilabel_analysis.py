"""The analysis at the end of a run of several labels an image: what it holds, and that it can lose nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics.pairwise import cosine_similarity
from trained_runs import TrainedRuns

from common.config import Experiment
from common.data import build_federation
from common.data.images.transforms import prepare
from common.models.model import build_model
from server_app.engines.engines import run_local
from server_app.frames.build import build_frame
from server_app.generic import multilabel_analysis
from server_app.generic.class_features import draw_positives, embed
from server_app.generic.multilabel_analysis import (
    AnalysisInput,
    attention_samples,
    head_and_tail,
    label_pairs,
    points,
    prototypes,
)
from server_app.run.journal import log, read_events

Tiny = Callable[..., Experiment]


def subject_of(experiment: Experiment) -> AnalysisInput:
    frame = build_frame(experiment, 10, 16)[0] if experiment.method.endswith("_ml") else None
    model = build_model(experiment, 1, 10, frame)
    head = model.aux_head if frame is None else model.frame_head()
    return AnalysisInput(experiment, build_federation(experiment), model, head)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    reported: list[str] = []
    monkeypatch.setattr(log, "warning", lambda words, *facts: reported.append(words % facts))
    return reported


@pytest.mark.parametrize("method", ["fedloge_ml", "fedavg", "fedper", "fedbn"])
def test_a_run_of_several_labels_leaves_its_analysis_and_a_report(
    tiny_for: Tiny, method: str, lines: list[str]
) -> None:
    folder = run_local(tiny_for(method, multilabel=True, rounds=1, report_images=True))
    found = json.loads((folder / "analysis.json").read_text())
    assert not [line for line in lines if "analysis" in line]
    expected = {"label_pairs"} if method == "fedbn" else {"label_pairs", "prototypes", "points"}
    assert set(found) == expected | ({"attention"} if method == "fedloge_ml" else set())
    assert "Labels that occur together" in (folder / "report.html").read_text()


def test_no_image_and_no_map_of_one_is_kept_unless_asked_for(trained: TrainedRuns) -> None:
    folder = trained(method="fedloge_ml", rounds=1)
    assert set(json.loads((folder / "analysis.json").read_text())) == {"label_pairs", "prototypes", "points"}
    page = (folder / "report.html").read_text()
    assert "data:image" not in page and "report-images=true" in page


def test_a_run_of_one_label_leaves_none(trained: TrainedRuns) -> None:
    assert not (trained(method="fedavg", rounds=1) / "analysis.json").exists()


def test_a_part_that_fails_is_one_line_and_the_run_keeps_its_result(
    tiny_for: Tiny, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(multilabel_analysis, "embed", fail)
    folder = run_local(tiny_for("fedloge_ml", rounds=1, report_images=True))
    assert [line for line in lines if "analysis" in line] == ["analysis: no points: out of memory"]
    assert set(json.loads((folder / "analysis.json").read_text())) == {"label_pairs", "prototypes", "attention"}
    assert (folder / "summary.json").exists() and (folder / "report.html").exists()
    assert read_events(folder)[-1]["event"] == "summary"


def test_pairs_count_visible_labels_alone(tiny_for: Tiny) -> None:
    experiment = tiny_for("fedavg", multilabel=True, sites=4, missing_classes=0.4)
    subject = subject_of(experiment)
    found, federation = label_pairs(subject), subject.federation
    order = found["classes"]
    everywhere = np.array(found["all"])
    assert (everywhere == everywhere.T).all()
    assert everywhere.diagonal().tolist() == federation.class_counts[order].tolist()
    assert federation.class_counts[order].tolist() == sorted(federation.class_counts, reverse=True)
    assert list(found["sites"]) == list(federation.site_names)
    for site, counts in zip(federation.site_names, federation.train_counts, strict=True):
        assert np.diagonal(found["sites"][site]).tolist() == counts[order].tolist()
    assert sum(np.array(cells) for cells in found["sites"].values()).tolist() == found["all"]


def test_real_sites_disclose_no_pairs(tiny_for: Tiny) -> None:
    subject = subject_of(tiny_for("fedavg", multilabel=True))
    deployed = subject.experiment.replace(partition="deployed")
    assert label_pairs(AnalysisInput(deployed, subject.federation, subject.model, subject.head)) == {}


def test_the_same_seed_gives_the_same_analysis(tiny_for: Tiny) -> None:
    first, again = (subject_of(tiny_for("fednca_ml", report_images=True)) for _ in range(2))
    for part in (prototypes, points, attention_samples):
        assert part(first) == part(again)
    other = subject_of(tiny_for("fednca_ml", seed=1))
    assert points(first) != points(other)


def test_prototypes_are_also_of_the_features_before_attention(tiny_for: Tiny) -> None:
    subject = subject_of(tiny_for("fednca_ml"))
    found, dataset = prototypes(subject), subject.dataset
    images = prepare(dataset.test.batch(np.arange(len(dataset.test))), dataset.mean, dataset.std, torch.device("cpu"))
    with torch.no_grad():
        pooled = subject.model.backbone.eval().get_submodule("body")(images).double().numpy()
    means = [pooled[subject.positives[:, c]].mean(axis=0) for c in found["classes"]]
    assert np.allclose(found["without_attention"]["cosines"], cosine_similarity(means), atol=1e-5)
    assert "without_attention" not in prototypes(subject_of(tiny_for("fedavg", multilabel=True)))


def test_samples_have_their_class_and_attention_that_sums_to_one(tiny_for: Tiny) -> None:
    subject = subject_of(tiny_for("fednca_ml", report_images=True))
    samples = attention_samples(subject)
    assert [sample["class"] for sample in samples] == list(subject.order)  # ten classes; of more than twenty, the ends
    for sample in samples:
        assert sample["class"] in sample["labels"]
        assert 0 < sample["probability"] < 1
        assert np.sum(sample["attention"]) == pytest.approx(1)


def test_points_are_at_most_six_hundred_and_of_their_classes(tiny_for: Tiny) -> None:
    subject = subject_of(tiny_for("fedavg", multilabel=True, composites_test=900))
    found = points(subject)
    assert len(found["classes"]) == len(found["x"]) == len(found["y"]) <= 600
    assert max(np.bincount(found["classes"])) <= 60
    assert np.isfinite([found["x"], found["y"]]).all()


def test_too_few_or_equal_features_give_no_points() -> None:
    assert embed(np.eye(3), 0).shape == embed(np.ones((30, 5)), 0).shape == embed(np.zeros((9, 5)), 0).shape == (0, 2)
    assert embed(np.eye(5), 0).shape == (5, 2)


@given(arrays(np.bool_, st.tuples(st.integers(0, 30), st.integers(1, 6))), st.integers(1, 5))
def test_drawn_positives_are_positives_and_no_more_than_asked(labels: Any, at_most: int) -> None:
    drawn = draw_positives(labels, at_most, 0)
    assert not (drawn & ~labels).any()
    assert (drawn.sum(axis=0) == np.minimum(labels.sum(axis=0), at_most)).all()


@given(st.integers(1, 60), st.integers(1, 45))
def test_ends_are_the_first_and_the_last(count: int, wanted: int) -> None:
    found = head_and_tail(range(count), wanted)
    assert len(found) == min(count, wanted) and found == sorted(set(found))
    assert 0 in found and (wanted < 2 or count - 1 in found)


def test_a_journal_that_cannot_be_written_is_one_line(tiny_for: Tiny, lines: list[str], tmp_path: Path) -> None:
    class Full:
        def write_json(self, name: str, content: Any) -> None:
            raise OSError("no space left")

    multilabel_analysis.write_analysis(Full(), subject_of(tiny_for("fedavg", multilabel=True)))  # type: ignore[arg-type]
    assert lines == ["analysis: cannot be written: no space left"]
