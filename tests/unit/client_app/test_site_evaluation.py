from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from client_app.evaluation import hits
from common.config import Experiment
from common.data import build_federation
from common.features import extract_features
from common.model import build_model


def head_of(weight: list[list[float]]) -> nn.Linear:
    head = nn.Linear(len(weight[0]), len(weight), bias=False)
    head.weight.data = torch.tensor(weight)
    return head


def test_hits_counts_correct_predictions() -> None:
    head = head_of([[1.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([[2.0, 1.0], [1.0, 2.0], [3.0, 0.0]])
    assert hits(head, features, torch.tensor([0, 1, 1])) == 2
    assert hits(head, features[:0], torch.tensor([], dtype=torch.int64)) == 0


def test_absent_classes_are_never_predicted() -> None:
    head = head_of([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    features = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    labels = torch.tensor([0, 1])
    assert hits(head, features, labels) == 0
    assert hits(head, features, labels, np.array([True, True, False])) == 2


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
