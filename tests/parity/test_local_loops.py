"""Which parts a method trains in which passes over the images, against loops written out."""

from collections.abc import Callable

import torch
from plain_batches import normalised
from torch.nn.functional import cross_entropy

from client_app.methods import load
from client_app.site.site import simulated_site
from client_app.training.loop import batches, train_site
from common.config import Experiment
from common.models.model import build_model
from common.seeds import numpy_generator

Tiny = Callable[..., Experiment]


def test_ditto_equals_two_separate_loops(tiny: Tiny) -> None:
    """The global model trains as under FedAvg; v_k by its own loss, held to what arrived."""
    experiment = tiny(method="ditto", ditto_lambda=0.7, local_epochs=2)
    site = simulated_site(experiment, 0)
    dataset, rows = site.dataset, site.train_rows
    ours, alone, personal = (build_model(experiment, 1, 10, site="site-00") for _ in range(3))
    train_site(ours, load("ditto"), site, 1)
    train_site(alone, load("fedavg"), site, 1)
    broadcast = [p.detach().clone() for p in [*personal.backbone.parameters(), *personal.aux_head.parameters()]]
    mine = [*personal.personal_backbone.parameters(), *personal.personal_head.parameters()]
    optimiser = torch.optim.SGD(mine, lr=experiment.train.learning_rate, momentum=experiment.train.momentum)
    order = numpy_generator(experiment.run.seed, "batches", "site-00", 1)
    personal.train()
    for _ in range(2):
        for chunk in batches(rows, experiment.train.batch_size, order):
            images = normalised(dataset, chunk)
            loss = cross_entropy(
                personal.personal_head(personal.personal_backbone(images)),
                torch.from_numpy(dataset.train.labels[chunk]),
            )
            for now, then in zip(mine, broadcast, strict=True):
                loss = loss + 0.35 * ((now - then) ** 2).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    state = ours.state_dict()
    for name, value in alone.state_dict().items():
        if not name.startswith("personal"):
            torch.testing.assert_close(state[name], value, msg=name, rtol=1e-4, atol=1e-5)
    for name, value in personal.state_dict().items():
        if name.startswith("personal"):
            torch.testing.assert_close(state[name], value, msg=name, rtol=1e-4, atol=1e-5)


def test_fedper_trains_backbone_and_head_in_the_same_steps(tiny: Tiny) -> None:
    experiment = tiny(method="fedper")
    assert [(phase.epochs, phase.frozen) for phase in load("fedper").phases(experiment)] == [(1, ())]
    site = simulated_site(experiment, 0)
    dataset, rows = site.dataset, site.train_rows
    ours, by_hand = (build_model(experiment, 1, 10, site="site-00") for _ in range(2))
    train_site(ours, load("fedper"), site, 1)
    assert by_hand.aux_head is None and by_hand.personal_head is not None
    optimiser = torch.optim.SGD(
        by_hand.parameters(), lr=experiment.train.learning_rate, momentum=experiment.train.momentum
    )
    by_hand.train()
    for chunk in batches(
        rows, experiment.train.batch_size, numpy_generator(experiment.run.seed, "batches", "site-00", 1)
    ):
        images = normalised(dataset, chunk)
        loss = cross_entropy(by_hand.personal_head(by_hand(images)), torch.from_numpy(dataset.train.labels[chunk]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    state = ours.state_dict()
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(state[name], value, msg=name, rtol=1e-4, atol=1e-5)


def test_fedrep_trains_the_head_first_then_the_body(tiny: Tiny) -> None:
    experiment = tiny(method="fedrep", local_epochs=5, fedrep_body_epochs=2)
    first, second = load("fedrep").phases(experiment)
    assert (first.epochs, first.frozen) == (3, ("backbone",))  # five passes over the images in all
    assert (second.epochs, second.frozen) == (2, ("personal_head",))
    assert load("fedrep").phases(tiny(method="fedrep", fedrep_head_epochs=7))[0].epochs == 7
    for phase, still in ((first, "backbone"), (second, "personal_head")):
        model = build_model(experiment, 1, 10, site="site-00")
        before = {name: value.clone() for name, value in model.state_dict().items()}
        train_site(model, load("fedrep"), simulated_site(experiment, 0), 1, phases=(phase,))
        moved = {
            name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
        }
        assert moved == {"backbone", "personal_head"} - {still}
        assert all(p.requires_grad for p in model.parameters())


def test_fedetf_alternates_the_sites_own_etf_and_its_projection(tiny: Tiny) -> None:
    experiment = tiny(method="fedetf", finetune_epochs=7)
    method = load("fedetf")
    model = build_model(experiment, 1, 10, torch.randn(10, 16), site="site-00")
    method.start(model)
    assert model.personal_head is not None and model.frame is not None
    phases = method.finetuning(experiment)
    assert phases is not None and [phase.epochs for phase in phases] == [3, 1, 1, 1, 1]
    own, projection = phases[1:3]
    for epochs, expected in ((1, (0, 1)), (2, (0, 2)), (3, (1, 2)), (5, (3, 2)), (6, (2, 4)), (20, (8, 12))):
        first, *turns = method.finetuning(tiny(method="fedetf", finetune_epochs=epochs))
        assert (first.epochs, first.frozen, first.losses, len(turns)) == (expected[0], (), None, expected[1])
        assert turns == ([own, projection] * 6)[: len(turns)]
        assert sum(phase.epochs for phase in (first, *turns)) == epochs
    frame, scale = model.frame.clone(), torch.zeros(1)
    moved = []
    for phase in phases[:3]:
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        train_site(model, method, simulated_site(experiment, 0), 1, phases=(phase,))
        parts = {n.split(".")[0] for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        moved.append(parts)
        scale = model.state_dict()["projection.scale"].clone() if len(moved) == 1 else scale
    assert moved == [{"backbone", "projection"}, {"personal_head"}, {"projection"}]
    assert torch.equal(model.state_dict()["projection.scale"], scale)
    assert torch.equal(model.frame, frame)
