from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, recall_score
from torch import nn

from client_app.site.site import Site, simulated_site
from client_app.training.evaluation import SiteEvaluator, correct
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


def pairs_in_order(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the AUC: the mean over pairs of a positive and a negative, 1 in order and 1/2 for a tie."""
    apart = scores[truth][:, None] - scores[~truth]
    return float(((apart > 0) + 0.5 * (apart == 0)).mean())


def test_correct_predictions_are_hits() -> None:
    head = head_of([[1.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([[2.0, 1.0], [1.0, 2.0], [3.0, 0.0]])
    assert correct(head, features, torch.tensor([0, 1, 1])).tolist() == [True, True, False]
    assert correct(head, features[:0], torch.tensor([], dtype=torch.int64)).sum() == 0


def test_absent_classes_are_never_predicted() -> None:
    head = head_of([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    features = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    labels = torch.tensor([0, 1])
    assert not correct(head, features, labels).any()
    assert correct(head, features, labels, np.array([True, True, False])).all()


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
        by_hand = [pairs_in_order(labels.numpy()[rows, c], scores[:, c]) for c in classes]
        assert found.get(f"auc_{group}-final") == (pytest.approx(np.mean(by_hand)) if classes else None)


def test_recalls_by_class_are_scikit_learns_and_add_up_to_the_hits(tiny: Callable[..., Experiment]) -> None:
    site = simulated_site(tiny(dirichlet=0.1, personalise={"mask-classes": "none"}), 0)
    model = build_model(site.experiment, 1, 10)
    assert model.aux_head is not None
    evaluator = SiteEvaluator(model.backbone, site)
    found, by_class = evaluator.measure(model.aux_head, "final")
    features, labels = extract_features(model.backbone, site.dataset.test, site.test_rows, site.dataset)
    guessed = model.aux_head(features).argmax(dim=1).numpy()
    expected = recall_score(labels, guessed, labels=np.arange(10), average=None, zero_division=np.nan)
    np.testing.assert_array_equal(by_class, expected)
    assert np.isnan(by_class).any() and evaluator.class_sizes.sum() == evaluator.num_test
    assert found["hits-final"] == round(np.nansum(by_class * evaluator.class_sizes))
    assert found["balanced_accuracy-final"] == pytest.approx(balanced_accuracy_score(labels.numpy(), guessed))
    assert len(found) == 2
    nothing = SiteEvaluator(model.backbone, replace(site, test_rows=site.test_rows[:0]))
    found, by_class = nothing.measure(model.aux_head, "final")
    assert found == {"hits-final": 0} and by_class.shape == (10,) and np.isnan(by_class).all()


def test_aucs_by_class_are_of_the_classes_that_have_both_labels(tiny_for: Callable[..., Experiment]) -> None:
    site = simulated_site(tiny_for("fedavg", multilabel=True), 0)
    model = build_model(site.experiment, 1, 10)
    assert model.aux_head is not None
    evaluator = SiteEvaluator(model.backbone, site)
    by_class = evaluator.measure(model.aux_head, "final")[1]
    features, labels = extract_features(model.backbone, site.dataset.test, site.test_rows, site.dataset)
    rows = split_rows(len(labels), site.experiment.run.seed, site.name)[1]
    truth, scores = labels.numpy()[rows], model.aux_head(features).detach().numpy()[rows]
    measured = [c for c in range(10) if 0 < truth[:, c].sum() < len(rows) and (site.visible is None or site.visible[c])]
    assert np.flatnonzero(~np.isnan(by_class)).tolist() == measured != []
    np.testing.assert_allclose(by_class[measured], [pairs_in_order(truth[:, c], scores[:, c]) for c in measured])
    np.testing.assert_array_equal(evaluator.class_sizes, truth.sum(axis=0))
