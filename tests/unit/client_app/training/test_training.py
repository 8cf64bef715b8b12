from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from client_app.methods import load
from client_app.methods.base import LocalContext
from client_app.site.site import simulated_site
from client_app.training.loop import _single_image_safe, batches, finetune_head, train_site
from common.config import Experiment
from common.errors import UserError
from common.models.model import build_model

Tiny = Callable[..., Experiment]


@settings(deadline=None)
@given(rows=st.integers(0, 200), size=st.integers(1, 40), seed=st.integers(0, 5))
def test_batches_are_a_permutation_without_a_lone_last_image(rows: int, size: int, seed: int) -> None:
    parts = list(batches(np.arange(rows), size, np.random.default_rng(seed)))
    seen = np.concatenate(parts) if parts else np.empty(0, int)
    assert sorted(seen.tolist()) == list(range(rows))
    assert all(len(part) <= size + 1 for part in parts)
    if size > 1 and rows > 1:
        assert all(len(part) > 1 for part in parts)


def test_batches_depend_on_the_generator_alone() -> None:
    first, again = ([p.tolist() for p in batches(np.arange(9), 4, np.random.default_rng(1))] for _ in range(2))
    assert first == again


def test_a_lone_image_does_not_touch_batch_norm() -> None:
    norm = nn.BatchNorm2d(3)
    norm.train()
    with _single_image_safe(norm, batch_size=1):
        norm(torch.randn(1, 3, 1, 1))  # raises in train mode: no variance over one value
    assert norm.training and norm.num_batches_tracked == 0


@pytest.mark.parametrize("method", ["fedavg", "fedloge"])
def test_training_moves_what_should_move_and_lowers_the_loss(tiny: Tiny, method: str) -> None:
    experiment = tiny(method=method, local_epochs=8)
    frame = torch.nn.functional.normalize(torch.randn(10, 16, generator=torch.Generator().manual_seed(0)))
    model = build_model(experiment, 1, 10, frame if method == "fedloge" else None, site="site-00")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    site = simulated_site(experiment, 0)
    first, second = (train_site(model, load(method), site, server_round) for server_round in (1, 2))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == before.keys() - {"frame"}
    assert all(second[name] < first[name] for name in first)


def test_a_site_without_images_changes_nothing(tiny: Tiny) -> None:
    experiment = tiny()
    model = build_model(experiment, 1, 10, torch.zeros(10, 16), site="site-00")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    site = replace(simulated_site(experiment, 0), train_rows=np.empty(0, dtype=np.int64))
    assert train_site(model, load("fedloge"), site, 1) == {}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_training_that_diverges_stops_and_names_the_learning_rate(tiny: Tiny) -> None:
    experiment = tiny(method="fedavg", learning_rate=1e30)
    model = build_model(experiment, 1, 10, None, site="site-00")
    with pytest.raises(UserError, match=r"diverged.*'backbone'.*learning-rate than 1e.30"):
        train_site(model, load("fedavg"), simulated_site(experiment, 0), 1)


def test_fine_tuning_learns_separable_features(tiny: Tiny) -> None:
    features = torch.eye(4).repeat(10, 1)
    labels = torch.arange(4).repeat(10)
    head = nn.Linear(4, 4, bias=False)
    nn.init.zeros_(head.weight)
    local = LocalContext(tiny(finetune_epochs=20, finetune_learning_rate=0.5), torch.full((4,), 10.0), {}, 40)
    finetune_head(head, features, labels, local)
    assert (head(features).argmax(dim=1) == labels).all()


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(UserError, match=r"'fedlog'.*did you mean 'fedloge'"):
        load("fedlog")
