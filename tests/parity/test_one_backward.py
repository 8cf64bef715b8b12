"""One summed loss and one optimiser equal Algorithm 1's three losses and three optimisers, step by step."""

import copy
from collections.abc import Callable

import pytest
import torch
from plain_batches import normalised
from torch.nn.functional import cross_entropy, linear

from client_app.methods.base import LocalContext
from client_app.methods.fedloge import METHOD
from client_app.site.site import simulated_site
from client_app.training.loop import batches, train_site
from common.config import Experiment, build
from common.models.model import Model, build_model
from common.seeds import numpy_generator

STEPS, CLASSES, DIM = 5, 4, 6
LOCAL = LocalContext(build({}), torch.ones(CLASSES), {})


def small_model(bias: bool) -> Model:
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(1, 5, 3),
        torch.nn.BatchNorm2d(5),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.LazyLinear(DIM),
    )
    backbone(torch.zeros(2, 1, 5, 5))  # gives LazyLinear its shape
    psi, phi = (torch.nn.Linear(DIM, CLASSES, bias=bias) for _ in range(2))
    return Model(backbone, torch.randn(CLASSES, DIM), aux_head=psi, personal_head=phi)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_summed_loss_equals_three_optimisers(bias: bool, weight_decay: float) -> None:
    ours = small_model(bias)
    theirs = copy.deepcopy(ours)
    options = {"lr": 0.1, "momentum": 0.5, "weight_decay": weight_decay}
    one = torch.optim.SGD(ours.parameters(), **options)
    parts = [theirs.backbone, theirs.aux_head, theirs.personal_head]
    three = [torch.optim.SGD(part.parameters(), **options) for part in parts]
    for _ in range(STEPS):
        images, labels = torch.randn(7, 1, 5, 5), torch.randint(0, CLASSES, (7,))

        one.zero_grad()
        sum(METHOD.losses(ours, images, labels, LOCAL).values()).backward()
        one.step()

        # Algorithm 1 as printed: θ under the frame, then ψ, then φ_k, each with its own step
        features = theirs.backbone(images)
        losses = [
            cross_entropy(linear(features, theirs.frame), labels),
            cross_entropy(theirs.aux_head(features.detach()), labels),
            cross_entropy(theirs.personal_head(features.detach()), labels),
        ]
        for optimiser, loss in zip(three, losses, strict=True):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

        for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            assert torch.equal(a, b), name


def test_the_frame_gets_no_gradient_and_is_no_parameter() -> None:
    model = small_model(bias=True)
    sum(METHOD.losses(model, torch.randn(3, 1, 5, 5), torch.tensor([0, 1, 2]), LOCAL).values()).backward()
    assert model.frame.grad is None
    assert "frame" not in dict(model.named_parameters())


def test_heads_do_not_move_the_backbone() -> None:
    model = small_model(bias=False)
    losses = METHOD.losses(model, torch.randn(3, 1, 5, 5), torch.tensor([0, 1, 2]), LOCAL)
    (losses["aux_head"] + losses["personal_head"]).backward()
    assert all(p.grad is None for p in model.backbone.parameters())


def test_the_local_loop_equals_three_optimisers_over_batches(tiny: Callable[..., Experiment]) -> None:
    experiment = tiny(local_epochs=2, augment="none", momentum=0.5, learning_rate=0.05)
    site = simulated_site(experiment, 0)
    dataset, rows = site.dataset, site.train_rows
    frame = torch.randn(10, 16, generator=torch.Generator().manual_seed(0))
    ours, theirs = (build_model(experiment, 1, 10, frame, site="site-00") for _ in range(2))
    train_site(ours, METHOD, site, 1)

    parts = [theirs.backbone, theirs.aux_head, theirs.personal_head]
    three = [torch.optim.SGD(part.parameters(), lr=0.05, momentum=0.5) for part in parts]
    order = numpy_generator(experiment.run.seed, "batches", "site-00", 1)
    theirs.train()
    for _ in range(2):
        for batch in batches(rows, experiment.train.batch_size, order):
            images = normalised(dataset, batch)
            labels = torch.from_numpy(dataset.train.labels[batch])
            features = theirs.backbone(images)
            logits = [
                linear(features, frame),
                theirs.aux_head(features.detach()),
                theirs.personal_head(features.detach()),
            ]
            for optimiser, output in zip(three, logits, strict=True):
                optimiser.zero_grad()
                cross_entropy(output, labels).backward()
                optimiser.step()
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name, rtol=1e-4, atol=1e-5)
