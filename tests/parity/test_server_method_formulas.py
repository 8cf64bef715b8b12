"""Formulas of the methods with a half on the coordinator, against naive loops and autograd."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from client_app.methods import OwnImages, load
from client_app.methods.base import LocalContext
from common.config import Experiment
from common.data import build_federation
from common.methods import METHODS
from common.models.features import extract_features
from common.models.model import build_model, shared_state
from server_app.aggregation.values import BadReplyError
from server_app.methods import load as load_server
from server_app.methods.ratio_loss import auxiliary_updates, ratios

Tiny = Callable[..., Experiment]
C, D = 4, 6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- Ratio Loss -------------------------------------------------------------------------------------


def probes(sharp: float = 1.0) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    features = torch.rand(12, D, generator=generator(1))
    head = nn.Linear(D, C, bias=False)
    with torch.no_grad():
        head.weight.copy_(sharp * torch.randn(C, D, generator=generator(2)))
    return head, features, torch.arange(12) % C


def test_auxiliary_updates_are_the_negative_gradients_of_each_class_alone() -> None:
    head, features, labels = probes()
    updates = auxiliary_updates(head(features).detach(), features, labels)
    for c in range(C):
        (gradient,) = torch.autograd.grad(cross_entropy(head(features[labels == c]), labels[labels == c]), head.weight)
        torch.testing.assert_close(updates[c], -gradient)


def ratio_by_hand(updates: torch.Tensor, cap: float = 100.0) -> list[float]:
    found = []
    for p in range(len(updates)):
        own = others = 0.0
        for row in range(updates.shape[1]):
            for column in range(updates.shape[2]):
                values = updates[:, row, column].tolist()
                largest = max(values)
                moved = [i for i, value in enumerate(values) if abs(value) > 0.8 * abs(largest)]
                if values.index(largest) == p and moved in ([p], []):
                    own += values[p]
                    others += sum(v for i, v in enumerate(values) if i != p) / (len(values) - 1)
        found.append(min(cap, abs(own) / abs(others) if others else 10.0))
    return found


@pytest.mark.parametrize("sharp", [0.0, 0.5, 3.0])
def test_ratios_equal_the_loop_over_single_weights(sharp: float) -> None:
    head, features, labels = probes(sharp)
    updates = auxiliary_updates(head(features).detach(), features, labels)
    for cap in (100.0, 2.0):
        assert ratios(updates, cap).tolist() == pytest.approx(ratio_by_hand(updates, cap), rel=1e-4)


def test_an_untrained_head_gives_every_class_nearly_the_same_ratio() -> None:
    head, features, labels = probes(sharp=0.0)
    features = torch.ones_like(features)
    found = ratios(auxiliary_updates(head(features).detach(), features, labels), cap=100)
    assert found.tolist() == pytest.approx([C - 1] * C)  # (1 − 1/C) / (1/C)


def test_the_ratio_loss_weights_each_images_cross_entropy(tiny: Tiny) -> None:
    experiment = tiny(method="ratio_loss")
    model = build_model(experiment, 1, 10, site="site-00").eval()
    assert model.class_weights is not None
    model.class_weights.copy_(torch.linspace(0.5, 5, 10))
    images, labels = torch.randn(5, 1, 8, 8, generator=generator()), torch.tensor([0, 3, 3, 9, 5])
    loss = load("ratio_loss").losses(model, images, labels, LocalContext(experiment, torch.ones(10), {}))["backbone"]
    assert model.aux_head is not None
    logs = model.aux_head(model(images)).double().log_softmax(dim=1)
    by_hand = sum(-float(model.class_weights[y]) * logs[i, y].item() for i, y in enumerate(labels.tolist())) / 5
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("ratio_cap", [100.0, 1.5])
def test_a_round_ends_with_the_class_weights_of_the_new_model(tiny: Tiny, ratio_cap: float) -> None:
    """α + β R_c of each class, by autograd on the sites' images; all of a class where there are 64 at most."""
    experiment = tiny(method="ratio_loss", ratio_alpha=0.7, ratio_beta=0.3, ratio_cap=ratio_cap)
    federation = build_federation(experiment)
    monitor = load_server("ratio_loss")(experiment, federation)
    model = build_model(experiment, 1, 10)
    with torch.no_grad():
        model.aux_head.weight.normal_(generator=generator(9))  # a head that has moved since the monitor was made
    arrays, facts = monitor.finish({}, shared_state(model, METHODS["ratio_loss"]), 1)
    rows = np.concatenate(federation.train_rows)
    updates = torch.zeros(10, *model.aux_head.weight.shape)
    for c in range(10):
        of_class = rows[federation.dataset.train.labels[rows] == c]
        features, labels = extract_features(model.backbone, federation.dataset.train, of_class, federation.dataset)
        (gradient,) = torch.autograd.grad(cross_entropy(model.aux_head(features), labels), model.aux_head.weight)
        updates[c] = -gradient
    expected = ratio_by_hand(updates, ratio_cap)
    assert facts["ratio"] == pytest.approx(expected, rel=1e-3)
    assert arrays.keys() == {"class_weights"}
    assert arrays["class_weights"].tolist() == pytest.approx([0.7 + 0.3 * ratio for ratio in expected], rel=1e-3)


# --- logit adjustment with the global prior -----------------------------------------------------------


def test_the_global_prior_adds_up_each_site_once(tiny: Tiny) -> None:
    experiment = tiny(method="fedavg_la_global")
    federation = build_federation(experiment)
    method = load_server("fedavg_la_global")(experiment, federation)
    model, local = build_model(experiment, 1, 10, site="site-00"), load("fedavg_la_global")
    method.begin()  # a round of which too little came
    method.add_extras("gone", {"class_counts": np.ones(10, np.float32)})
    method.begin()
    for _ in range(2):
        for site, rows in zip(federation.site_names, federation.train_rows, strict=True):
            context = LocalContext(experiment, torch.zeros(10), {})
            extras = local.extras(model, OwnImages(federation.dataset, rows), context)
            method.check(extras, {}, len(rows))
            method.add_extras(site, extras)
    arrays, _ = method.finish({}, {}, 1)
    assert arrays["class_weights"].tolist() == np.maximum(federation.class_counts, 1).tolist()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({}, "class_counts"),
        ({"class_counts": np.ones(9, np.float32)}, "float32(10,)"),
        ({"class_counts": np.ones(10, np.float64)}, "float64"),
        ({"class_counts": np.full(10, np.nan, np.float32)}, "finite"),
        ({"class_counts": -np.ones(10, np.float32)}, "not counts"),
        ({"class_counts": np.full(10, 1e30, np.float32)}, "beyond"),
        ({"class_counts": np.full(10, 0.5, np.float32)}, "not counts"),
        ({"class_counts": np.ones(10, np.float32), "labels": np.ones(3, np.float32)}, "labels"),
    ],
)
def test_bad_extras_are_refused(tiny: Tiny, bad: dict[str, Any], words: str) -> None:
    experiment = tiny(method="fedavg_la_global")
    method = load_server("fedavg_la_global")(experiment, build_federation(experiment))
    with pytest.raises(BadReplyError) as caught:
        method.check(bad, {}, 10)
    assert words in str(caught.value)
