"""CReFF's formulas, at the sites and on the coordinator, against naive loops and autograd."""

from collections.abc import Callable

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
from common.models.model import build_model, coordinator_state
from common.seeds import derive, torch_generator
from server_app.methods import load as load_server
from server_app.methods.creff import descend, head_gradients, match, matching_distance

Tiny = Callable[..., Experiment]
C, D = 4, 6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("head_bias", [False, True])
def test_a_sites_class_gradients_are_autograds_of_each_class(tiny: Tiny, head_bias: bool) -> None:
    experiment = tiny(method="creff", head_bias=head_bias)
    federation = build_federation(experiment)
    model = build_model(experiment, 1, 10, site="site-00")
    head, dataset, rows = model.retrained_head, federation.dataset, federation.train_rows[0]
    assert head is not None
    method, images = load("creff"), OwnImages(dataset, rows)
    local = LocalContext(experiment, torch.zeros(10), {})
    found = torch.from_numpy(method.extras(model, images, local)["class_gradients"])
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


def class_gradients_of_two_sites(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Nobody has class 4; the first site alone has class 5."""
    found = [torch.randn(shape, generator=generator(seed)).numpy() for seed in (10, 11)]
    found[0][4] = found[1][4] = found[1][5] = 0
    return found


def matched_by_hand(
    features: torch.Tensor, head: list[torch.Tensor], sites: list[np.ndarray], steps: int, rate: float
) -> tuple[torch.Tensor, float]:
    """Eqs. 4 and 5 as loops: gradient descent on one minus the cosine of each row, of each class that anyone has."""
    moving = features.clone().requires_grad_()
    for _ in range(steps):
        loss = torch.zeros(())
        for c in range(len(moving)):
            have = [torch.from_numpy(site[c]) for site in sites if site[c].any()]
            if not have:
                continue
            real = sum(have) / len(have)
            logits = torch.nn.functional.linear(moving[c], *head)
            label = torch.full((len(logits),), c)
            ours = torch.autograd.grad(cross_entropy(logits, label), head, create_graph=True)
            rows = [(ours[0][k], real[k, : ours[0].shape[1]]) for k in range(len(real))]
            rows += [(ours[1], real[:, -1])] if len(head) > 1 else []
            for a, b in rows:
                loss = loss + 1 - a @ b / (a.norm() * b.norm() + 1e-6)
        (gradient,) = torch.autograd.grad(loss, moving)
        moving = (moving - rate * gradient).detach().requires_grad_()
    return moving.detach(), loss.item()


@pytest.mark.parametrize("head_bias", [False, True])
def test_a_round_ends_with_a_head_trained_on_features_matched_to_the_mean_gradients(
    tiny: Tiny, head_bias: bool
) -> None:
    keys = {"creff_features": 5, "creff_match_steps": 3, "creff_retrain_epochs": 4, "creff_retrain_rate": 0.2}
    experiment = tiny(method="creff", head_bias=head_bias, **keys)
    method = load_server("creff")(experiment, build_federation(experiment))
    broadcast = coordinator_state(build_model(experiment, 1, 10), METHODS["creff"])
    dim = broadcast["retrained_head.weight"].shape[1]
    sites = class_gradients_of_two_sites((10, 10, dim + head_bias))
    for name, gradients in zip("ab", sites, strict=True):
        method.add_extras(name, {"class_gradients": gradients})
    arrays, facts = method.finish(broadcast, {}, 7)

    start = torch.randn((10, 5, dim), generator=torch_generator(experiment.run.seed, "creff-features"))
    old = [torch.from_numpy(value).requires_grad_() for value in broadcast.values()]
    features, loss = matched_by_hand(start, old, sites, steps=3, rate=experiment.options.creff_match_rate)
    found = torch.from_numpy(method.state()["features"])
    torch.testing.assert_close(found, features, rtol=1e-3, atol=1e-5)
    assert facts == {"match": pytest.approx(loss, rel=1e-4)}
    assert torch.equal(found[4], start[4]) and not torch.equal(found[5], start[5])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(experiment.run.seed, "creff-head", server_round=7))
        head = nn.Linear(dim, 10, bias=head_bias)
    optimiser = torch.optim.SGD(head.parameters(), lr=0.2)
    order = torch_generator(experiment.run.seed, "creff-batches", server_round=7)
    for _ in range(4):
        for batch in torch.randperm(50, generator=order).split(32):
            loss = cross_entropy(head(torch.stack([features[i // 5, i % 5] for i in batch])), batch // 5)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert arrays.keys() == broadcast.keys()
    for name, value in head.state_dict().items():
        torch.testing.assert_close(torch.from_numpy(arrays[f"retrained_head.{name}"]), value, rtol=1e-3, atol=1e-4)
    method.begin()
    again, _ = method.finish(broadcast, {}, 8)  # nobody answered: what was sent stays, no gradient counts twice
    assert all(np.array_equal(again[name], broadcast[name]) for name in broadcast)


def test_the_retrained_head_classifies_the_federated_features(tiny: Tiny) -> None:
    experiment = tiny(method="creff", creff_features=20, creff_match_steps=1, creff_match_rate=1e-9)
    method = load_server("creff")(experiment, build_federation(experiment))
    broadcast = coordinator_state(build_model(experiment, 1, 10), METHODS["creff"])
    dim = broadcast["retrained_head.weight"].shape[1]
    features = 3 * torch.eye(10, dim).unsqueeze(1) + 0.3 * torch.randn(10, 20, dim, generator=generator(12))
    method.restore({"features": features.numpy()})
    method.add_extras("a", {"class_gradients": np.ones((10, 10, dim), np.float32)})
    arrays, _ = method.finish(broadcast, {}, 1)
    predicted = (features @ torch.from_numpy(arrays["retrained_head.weight"]).T).argmax(dim=2)
    assert torch.equal(predicted, torch.arange(10).unsqueeze(1).expand(10, 20))
