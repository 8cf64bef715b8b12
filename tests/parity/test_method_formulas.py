"""Each method's distinctive formula against a naive computation."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from client_app.methods import load
from client_app.methods.base import LocalContext, proximal
from common.config import Experiment
from common.losses import single_label
from common.methods import METHODS
from common.models.model import Model, build_model

Tiny = Callable[..., Experiment]


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 1, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3, 9, 9])


def site_model(experiment: Experiment) -> tuple[Model, LocalContext]:
    """Return a model that has moved away from what arrived, and what the site knows."""
    model = build_model(experiment, 1, 10, site="site-00").eval()
    broadcast = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model, LocalContext(experiment, torch.tensor([5.0, 1, 7, 2, 1, 1, 1, 1, 1, 30]), broadcast)


def logits_by_hand(head: torch.nn.Linear, features: torch.Tensor) -> list[list[float]]:
    rows = []
    for feature in features.tolist():
        rows.append([sum(w * f for w, f in zip(weight, feature, strict=True)) for weight in head.weight.tolist()])
    return rows


def cross_entropy_by_hand(logits: list[list[float]], labels: torch.Tensor) -> float:
    table = torch.tensor(logits, dtype=torch.float64)
    picked = [table[i, label] - torch.log(torch.exp(table[i]).sum()) for i, label in enumerate(labels.tolist())]
    return -float(sum(picked)) / len(picked)


def test_fedprox_adds_half_mu_times_the_squared_distance(tiny: Tiny, batch: tuple) -> None:
    model, local = site_model(tiny(method="fedprox", fedprox_mu=0.3))
    losses = load("fedprox").losses(model, *batch, local)
    distance = 0.0
    for name, parameter in model.named_parameters():
        for now, then in zip(parameter.flatten().tolist(), local.broadcast[name].flatten().tolist(), strict=True):
            distance += (now - then) ** 2
    assert losses["proximal"].item() == pytest.approx(0.15 * distance, rel=1e-4)
    plain = cross_entropy(model.aux_head(model(batch[0])), batch[1])
    assert losses["backbone"].item() == pytest.approx(plain.item())


def test_the_proximal_gradient_is_mu_times_the_difference(tiny: Tiny) -> None:
    model, local = site_model(tiny(method="fedprox"))
    (0.5 * 0.3 * proximal(model, "aux_head", local.broadcast, "aux_head")).backward()
    expected = 0.3 * (model.aux_head.weight - local.broadcast["aux_head.weight"])
    torch.testing.assert_close(model.aux_head.weight.grad, expected)


@pytest.mark.parametrize("tau", [1.0, 0.5, 0.0])
def test_logit_adjustment_adds_the_log_prior_in_training_only(tiny: Tiny, batch: tuple, tau: float) -> None:
    model, local = site_model(tiny(method="fedavg_la", logit_adjustment=tau))
    method = load("fedavg_la")
    counts = local.class_counts.tolist()
    shifted = [
        [z + tau * float(torch.tensor(n).log()) for z, n in zip(row, counts, strict=True)]
        for row in logits_by_hand(model.aux_head, model(batch[0]))
    ]
    loss = method.losses(model, *batch, local)["backbone"].item()
    assert loss == pytest.approx(cross_entropy_by_hand(shifted, batch[1]), rel=1e-4)
    assert method.personal_head(model) is model.aux_head


def test_a_class_that_a_site_does_not_have_is_no_nan(tiny: Tiny, batch: tuple) -> None:
    for name, tau in (("fedavg_la", 1.0), ("fedavg_la", 0.0), ("fedrod", 1.0)):
        model, local = site_model(tiny(method=name, logit_adjustment=tau))
        counts = local.class_counts.clone()
        counts[5] = 0
        losses = load(name).losses(model, *batch, LocalContext(local.experiment, counts, local.broadcast))
        sum(losses.values()).backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_fedrod_is_a_balanced_head_and_a_personal_residual(tiny: Tiny, batch: tuple) -> None:
    model, local = site_model(tiny(method="fedrod"))
    method, (images, labels) = load("fedrod"), batch
    features = model(images)
    generic, residual = (logits_by_hand(head, features) for head in (model.aux_head, model.personal_head))
    losses = method.losses(model, images, labels, local)
    shift = local.class_counts.log().tolist()
    balanced = [[z + s for z, s in zip(row, shift, strict=True)] for row in generic]
    summed = [[a + b for a, b in zip(one, two, strict=True)] for one, two in zip(generic, residual, strict=True)]
    assert losses["backbone"].item() == pytest.approx(cross_entropy_by_hand(balanced, labels), rel=1e-4)
    assert losses["personal_head"].item() == pytest.approx(cross_entropy_by_hand(summed, labels), rel=1e-4)
    torch.testing.assert_close(
        method.personal_head(model)(features), torch.tensor(summed), rtol=1e-4, atol=1e-5, check_dtype=False
    )
    losses["personal_head"].backward()
    assert model.aux_head.weight.grad is None and all(p.grad is None for p in model.backbone.parameters())


def test_fedetf_scales_the_cosine_to_the_etf_and_adds_the_prior(tiny: Tiny, batch: tuple) -> None:
    experiment = tiny(method="fedetf")
    frame = torch.randn(10, 16, generator=torch.Generator().manual_seed(3))
    model = build_model(experiment, 1, 10, frame, site="site-00").eval()
    assert model.projection is not None and model.projection.scale is not None
    with torch.no_grad():
        model.projection.scale.fill_(4.0)
    counts = torch.tensor([5.0, 1, 7, 2, 1, 1, 1, 1, 1, 30])
    images, labels = batch
    loss = load("fedetf").losses(model, images, labels, LocalContext(experiment, counts, {}))["backbone"]
    table = []
    for feature in model(images).double():
        projected = model.projection.linear.weight.double() @ feature + model.projection.linear.bias.double()
        unit = projected / projected.norm()
        table.append([4 * float(w @ unit) + math.log(n) for w, n in zip(frame.double(), counts.tolist(), strict=True)])
    assert loss.item() == pytest.approx(cross_entropy_by_hand(table, labels), rel=1e-5)


def test_fedgrabs_gradients_are_the_balanced_ones(tiny: Tiny, batch: tuple) -> None:
    model, local = site_model(tiny(method="fedgrab"))
    method: Any = load("fedgrab")
    state = model.class_state
    assert state is not None and model.aux_head is not None
    state[0] = torch.linspace(-2, 2, 10)  # the balance so far
    images, labels = batch
    logits = model.aux_head(model(images)).detach()
    head = local.broadcast["aux_head.weight"]
    order = sorted(range(10), key=lambda c: -float(head[c].norm()))
    expected, counted = torch.zeros(6, 10), torch.zeros(6, 10)
    for i, label in enumerate(labels.tolist()):
        for c in range(10):
            own = 0.1 ** (order.index(c) / 9)
            error = -float(torch.linspace(-2, 2, 10)[c])
            control = 10 * error + 0.01 * error + 0.1 * error  # the first step: Σe = Δe = e
            sign = 1 if label == c else -1
            balanced = (10 / 9) / (1 / 9 + math.exp(-0.5 * sign * control))
            residual = 1 / (1 + math.exp(-float(logits[i, c]))) - (label == c)
            expected[i, c] = (own + (1 - own) * balanced) * residual / 6
            counted[i, c] = (1 - own) * balanced * abs(residual) / 6
    features = model(images).detach()
    loss = method.losses(_Fixed(model, features), images, labels, local)["backbone"]
    (gradient,) = torch.autograd.grad(loss, model.aux_head.weight)
    torch.testing.assert_close(gradient, expected.T @ features, rtol=1e-4, atol=1e-6)
    signs = torch.where(torch.nn.functional.one_hot(labels, 10) > 0, 1.0, -1.0)
    torch.testing.assert_close(state[0], torch.linspace(-2, 2, 10) + (counted * signs).sum(dim=0))


class _Fixed:
    """A model whose backbone gives fixed features: what is differentiated is the head alone."""

    def __init__(self, model: Model, features: torch.Tensor) -> None:
        self.aux_head, self.class_state, self._features = model.aux_head, model.class_state, features

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self._features


def test_fedgrabs_controller_equals_the_incremental_form() -> None:
    """u_t = u_{t−1} + Kp(e_t − e_{t−1}) + Ki e_t + Kd(e_t − 2e_{t−1} + e_{t−2}), as controllers are often written."""
    method: Any = load("fedgrab")
    state = torch.zeros(3, 1, dtype=torch.float64)
    control, errors = 0.0, [0.0, 0.0]
    for difference in (-0.3, -0.1, 0.2, 0.05):
        state[0] = difference
        factor = method.gains(state, torch.zeros(1, 1, dtype=torch.float64))
        errors.append(-difference)
        control += 10 * (errors[-1] - errors[-2]) + 0.01 * errors[-1]
        control += 0.1 * (errors[-1] - 2 * errors[-2] + errors[-3])
        assert factor.item() == pytest.approx((10 / 9) / (1 / 9 + math.exp(0.5 * control)))


def test_logit_adjustment_with_the_global_prior_shifts_by_the_coordinators_counts(tiny: Tiny, batch: tuple) -> None:
    model, local = site_model(tiny(method="fedavg_la_global", logit_adjustment=0.5))
    assert model.class_weights is not None and model.aux_head is not None
    model.class_weights.copy_(torch.arange(1.0, 11.0))
    images, labels = batch
    loss = load("fedavg_la_global").losses(model, images, labels, local)["backbone"]
    table = logits_by_hand(model.aux_head, model(images))
    shifted = [[z + 0.5 * math.log(c + 1) for c, z in enumerate(row)] for row in table]
    assert loss.item() == pytest.approx(cross_entropy_by_hand(shifted, labels), rel=1e-5)


@pytest.mark.parametrize("projection", [False, True])
def test_dot_regression_draws_unit_features_to_their_class_vector(tiny: Tiny, batch: tuple, projection: bool) -> None:
    experiment = tiny(method="fedloge", frame_loss="dot-regression", frame_projection=projection)
    frame = torch.randn(10, 16, generator=torch.Generator().manual_seed(3))
    model = build_model(experiment, 1, 10, frame, site="site-00").eval()
    assert (model.projection is not None) == projection
    images, labels = batch
    loss = load("fedloge").losses(model, images, labels, LocalContext(experiment, torch.ones(10), {}))["backbone"]
    total = 0.0
    for feature, label in zip(model(images).double(), labels.tolist(), strict=True):
        if model.projection is not None:
            assert model.projection.scale is None
            feature = model.projection.linear.weight.double() @ feature + model.projection.linear.bias.double()
        norm = float(frame[label].double().norm())
        total += (float(frame[label].double() @ feature / feature.norm()) - norm) ** 2 / (2 * norm)
    assert loss.item() == pytest.approx(total / len(labels), rel=1e-4)


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if row.labels != "many"])
@pytest.mark.parametrize("keys", [{"label_smoothing": 0.3}, {"loss": "focal", "focal_gamma": 1.5}], ids=str)
def test_a_loss_of_one_label_is_wherever_the_method_has_a_cross_entropy(
    tiny: Tiny, batch: tuple, name: str, keys: dict[str, Any]
) -> None:
    """Every cross-entropy of the plain method becomes that loss of the same logits, which PyTorch computes here."""
    method, found = load(name), {}
    frame = torch.randn(10, 16, generator=torch.Generator().manual_seed(2)) if METHODS[name].frame else None
    seen: list[torch.Tensor] = []

    def other_loss(logits: torch.Tensor, labels: torch.Tensor, **options: Any) -> torch.Tensor:
        seen.append(logits)
        if "label_smoothing" in keys:
            return cross_entropy(logits, labels, label_smoothing=0.3)
        shares = logits.softmax(dim=1).gather(1, labels[:, None])
        return (-((1 - shares) ** 1.5) * shares.log()).mean()

    for case, changes in (("plain", {}), ("changed", keys)):
        experiment = tiny(method=name, **changes)
        model = build_model(experiment, 1, 10, frame, site="site-00").eval()
        broadcast = {key: p.detach().clone() for key, p in model.named_parameters()}
        local = LocalContext(experiment, torch.tensor([5.0, 1, 7, 2, 1, 1, 1, 1, 1, 30]), broadcast, 50)
        found[case] = method.losses(model, *batch, local)
        if case == "plain" and not METHODS[name].own_loss:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(single_label, "cross_entropy", other_loss)
                wanted = method.losses(model, *batch, local)
            assert len(seen) == sum(loss != "proximal" for loss in wanted)
    wanted = found["plain"] if METHODS[name].own_loss else wanted
    assert found["changed"].keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found["changed"][key], value, rtol=1e-4, atol=1e-6)
