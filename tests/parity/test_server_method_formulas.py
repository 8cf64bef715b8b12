"""Formulas of the methods with a half on the coordinator, against naive loops and autograd."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from client_app.methods import load
from client_app.methods.base import Local
from common.config import Experiment
from common.data import build_federation
from common.features import extract_features
from common.model import build_model
from server_app.methods import load as load_server
from server_app.methods.creff import descend, head_gradients, match, matching_distance
from server_app.methods.ratio_loss import auxiliary_updates, ratios
from server_app.sites import BadReplyError

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


def ratio_by_hand(updates: torch.Tensor) -> list[float]:
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
        found.append(min(100.0, abs(own) / abs(others)) if others else 10.0)
    return found


@pytest.mark.parametrize("sharp", [0.0, 0.5, 3.0])
def test_ratios_equal_the_loop_over_single_weights(sharp: float) -> None:
    head, features, labels = probes(sharp)
    updates = auxiliary_updates(head(features).detach(), features, labels)
    assert ratios(updates).tolist() == pytest.approx(ratio_by_hand(updates), rel=1e-4)


def test_an_untrained_head_gives_every_class_nearly_the_same_ratio() -> None:
    head, features, labels = probes(sharp=0.0)
    features = torch.ones_like(features)
    found = ratios(auxiliary_updates(head(features).detach(), features, labels))
    assert found.tolist() == pytest.approx([C - 1] * C)  # (1 − 1/C) / (1/C)


def test_the_ratio_loss_weights_each_images_cross_entropy(tiny: Tiny) -> None:
    experiment = tiny(method="ratio_loss")
    model = build_model(experiment, 1, 10, site="site-00").eval()
    assert model.class_weights is not None
    model.class_weights.copy_(torch.linspace(0.5, 5, 10))
    images, labels = torch.randn(5, 1, 8, 8, generator=generator()), torch.tensor([0, 3, 3, 9, 5])
    loss = load("ratio_loss").losses(model, images, labels, Local(experiment, torch.ones(10), {}))["backbone"]
    assert model.aux_head is not None
    logs = model.aux_head(model(images)).double().log_softmax(dim=1)
    by_hand = sum(-float(model.class_weights[y]) * logs[i, y].item() for i, y in enumerate(labels.tolist())) / 5
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)


# --- CReFF ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head_bias", [False, True])
def test_a_sites_class_gradients_are_autograds_of_each_class(tiny: Tiny, head_bias: bool) -> None:
    experiment = tiny(method="creff", head_bias=head_bias)
    federation = build_federation(experiment)
    model = build_model(experiment, 1, 10, site="site-00")
    head, dataset, rows = model.retrained_head, federation.dataset, federation.train_rows[0]
    assert head is not None
    found = torch.from_numpy(load("creff").extras(model, dataset, rows)["class_gradients"])
    features, labels = extract_features(model.backbone, dataset.train, rows, dataset)
    for c in range(10):
        if not (labels == c).any():
            assert not found[c].any()
            continue
        loss = cross_entropy(head(features[labels == c]), labels[labels == c])
        gradients = torch.autograd.grad(loss, [p for p in (head.weight, head.bias) if p is not None])
        expected = torch.cat([g.view(10, -1) for g in gradients], dim=1)
        torch.testing.assert_close(found[c], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("with_bias", [False, True])
def test_gradients_of_federated_features_and_the_distance_equal_the_loops(with_bias: bool) -> None:
    features = torch.randn(C, 3, D, generator=generator(3))
    head = nn.Linear(D, C, bias=with_bias)
    ours = head_gradients(features, head.weight.detach(), head.bias.detach() if with_bias else None)
    for c in range(C):
        loss = cross_entropy(head(features[c]), torch.full((3,), c))
        gradients = torch.autograd.grad(loss, list(head.parameters()))
        torch.testing.assert_close(ours[c], torch.cat([g.view(C, -1) for g in gradients], dim=1))
    real = torch.randn(ours.shape, generator=generator(4))
    for c, distance in enumerate(matching_distance(ours, real, with_bias).tolist()):
        by_hand = 0.0
        for row in range(C):
            a, b = ours[c, row, :D].double(), real[c, row, :D].double()
            by_hand += 1 - float(a @ b / (a.norm() * b.norm() + 1e-6))
        if with_bias:
            a, b = ours[c, :, D].double(), real[c, :, D].double()
            by_hand += 1 - float(a @ b / (a.norm() * b.norm() + 1e-6))
        assert distance == pytest.approx(by_hand, rel=1e-4)


def test_matching_brings_the_gradients_nearer_and_leaves_unknown_classes() -> None:
    features = torch.randn(C, 5, D, generator=generator(5))
    weight = torch.randn(C, D, generator=generator(6))
    target = head_gradients(torch.rand(C, 5, D, generator=generator(7)), weight, None)
    known = torch.tensor([True, True, True, False])
    before = matching_distance(head_gradients(features, weight, None), target, False)
    moved, loss = match(features, weight, None, target, known, steps=50, rate=0.1)
    after = matching_distance(head_gradients(moved, weight, None), target, False)
    assert (after[:3] < before[:3]).all() and loss < before[:3].sum()
    assert torch.equal(moved[3], features[3])


def test_a_descent_step_is_sgds() -> None:
    features, labels = torch.randn(7, D, generator=generator(8)), torch.tensor([0, 1, 2, 3, 3, 3, 0])
    head, other = nn.Linear(D, C), nn.Linear(D, C)
    other.load_state_dict(head.state_dict())
    descend(head, features, labels, 0.3)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.3)
    cross_entropy(other(features), labels).backward()
    optimizer.step()
    torch.testing.assert_close(head.weight, other.weight)
    torch.testing.assert_close(head.bias, other.bias)


def test_the_real_gradients_are_the_mean_over_the_sites_that_have_the_class(tiny: Tiny) -> None:
    experiment = tiny(method="creff")
    method: Any = load_server("creff")(experiment, build_federation(experiment))
    one, two = np.ones((10, 10, 3), np.float32), np.full((10, 10, 3), 3, np.float32)
    one[4] = two[4] = two[5] = 0
    method.take("a", {"class_gradients": one})
    method.take("b", {"class_gradients": two})
    real = np.asarray(method._sum) / np.maximum(method._sites, 1)[:, None, None]
    assert (real[0] == 2).all() and (real[5] == 1).all() and (real[4] == 0).all() and method._sites[4] == 0


# --- logit adjustment with the global prior -----------------------------------------------------------


def test_the_global_prior_adds_up_each_site_once(tiny: Tiny) -> None:
    experiment = tiny(method="fedavg_la_global")
    federation = build_federation(experiment)
    method = load_server("fedavg_la_global")(experiment, federation)
    model, local = build_model(experiment, 1, 10, site="site-00"), load("fedavg_la_global")
    for _ in range(2):
        for site, rows in zip(federation.site_names, federation.train_rows, strict=True):
            extras = local.extras(model, federation.dataset, rows)
            method.check(extras, {}, len(rows))
            method.take(site, extras)
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
        ({"class_counts": np.full(10, 1e30, np.float32)}, "not counts"),
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
