from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from client_app.site.site import Site
from client_app.training.evaluation import SiteEvaluator, count_correct
from common.config import Experiment
from common.data import build_federation
from common.metrics import groups
from common.models.features import extract_features
from common.models.model import build_model
from common.multilabel_metrics import split_rows


def head_of(weight: list[list[float]]) -> nn.Linear:
    head = nn.Linear(len(weight[0]), len(weight), bias=False)
    head.weight.data = torch.tensor(weight)
    return head


def test_hits_counts_correct_predictions() -> None:
    head = head_of([[1.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([[2.0, 1.0], [1.0, 2.0], [3.0, 0.0]])
    assert count_correct(head, features, torch.tensor([0, 1, 1])) == 2
    assert count_correct(head, features[:0], torch.tensor([], dtype=torch.int64)) == 0


def test_absent_classes_are_never_predicted() -> None:
    head = head_of([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    features = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    labels = torch.tensor([0, 1])
    assert count_correct(head, features, labels) == 0
    assert count_correct(head, features, labels, np.array([True, True, False])) == 2


def test_features_come_in_eval_mode_and_in_order(tiny: Callable[..., Experiment]) -> None:
    experiment = tiny()
    dataset = build_federation(experiment).dataset
    model = build_model(experiment, 1, 10)
    rows = np.arange(20, dtype=np.int64)[::-1].copy()
    features, labels = extract_features(model, dataset.test, rows, dataset)
    assert features.shape == (20, 16) and not features.requires_grad and not model.training
    np.testing.assert_array_equal(labels.numpy(), dataset.test.labels[rows])
    again, _ = extract_features(model, dataset.test, rows[:1], dataset)
    torch.testing.assert_close(again[0], features[0])
    nothing, none = extract_features(model, dataset.test, rows[:0], dataset)
    assert len(nothing) == len(none) == 0


def test_a_simulated_sites_auc_is_told_by_how_many_images_a_class_has(tiny_for: Callable[..., Experiment]) -> None:
    experiment = tiny_for("fedavg", multilabel=True)
    federation = build_federation(experiment)
    everything = np.arange(len(federation.dataset.test), dtype=np.int64)
    site = Site("site-00", experiment, federation, federation.train_rows[0], everything)
    model = build_model(experiment, 1, 10)
    assert model.aux_head is not None
    found = SiteEvaluator(model.backbone, site).metrics(model.aux_head, "final")
    features, labels = extract_features(model.backbone, federation.dataset.test, everything, federation.dataset)
    rows = split_rows(len(everything), experiment.run.seed, site.name)[1]
    scores = model.aux_head(features).detach().numpy()[rows]
    for group, classes in groups(federation.class_counts).items():
        by_hand = [roc_auc_score(labels.numpy()[rows, c], scores[:, c]) for c in classes]
        assert found.get(f"auc_{group}-final") == (pytest.approx(np.mean(by_hand)) if classes else None)
