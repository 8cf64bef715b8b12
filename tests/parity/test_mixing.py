"""Mixup and CutMix against torchvision's transforms and cross-entropy of soft labels, in every method that mixes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn.functional import cross_entropy
from torchvision.transforms import v2

from client_app.methods import load
from client_app.methods.base import LocalContext, Mixed
from client_app.site.site import simulated_site
from client_app.training.loop import train_site
from client_app.training.mixing import Mix, cut, draw_mixes
from common.config import Experiment, build
from common.errors import UserError
from common.methods import METHODS
from common.models.model import build_model
from server_app.engines.engines import run_local

Tiny = Callable[..., Experiment]
MIXING = [name for name, row in METHODS.items() if row.mixes]
CLASSES, SIZE = 10, (12, 16)
COUNTS = torch.tensor([5.0, 1, 7, 2, 1, 1, 1, 1, 1, 30])


class Fixed:
    """A distribution that always draws one share."""

    def __init__(self, share: float) -> None:
        self._share = torch.tensor(share)

    def sample(self, shape: tuple[int, ...]) -> torch.Tensor:
        return self._share


def batch(size: tuple[int, int] = SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, *size, generator=generator), torch.tensor([0, 3, 3, 9, 1, 4])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.83, 1.0])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [v2.MixUp, v2.CutMix])
def test_images_and_loss_are_torchvisions(kind: Any, share: float, seed: int) -> None:
    images, labels = batch()
    reference = kind(num_classes=CLASSES)
    reference._dist = Fixed(share)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        across, down = int(torch.randint(SIZE[1], (1,))), int(torch.randint(SIZE[0], (1,)))
        torch.manual_seed(seed)
        wanted, soft = reference(images, labels)
    height, width = SIZE
    mix = Mix(share) if kind is v2.MixUp else cut(share, (down + 0.5) / height, (across + 0.5) / width, SIZE)
    torch.testing.assert_close(mix.images(images), wanted)
    logits = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(seed))
    local = LocalContext(build({}), COUNTS, {}, mixed=mix.labels(labels))
    torch.testing.assert_close(local.loss(logits, labels), cross_entropy(logits, soft))
    smoothed = LocalContext(build({"label-smoothing": 0.2}), COUNTS, {}, mixed=mix.labels(labels))
    torch.testing.assert_close(smoothed.loss(logits, labels), cross_entropy(logits, soft, label_smoothing=0.2))


@pytest.mark.parametrize(
    ("name", "keys"), [*((name, {}) for name in MIXING), ("fedloge", {"frame_loss": "dot-regression"})]
)
def test_every_loss_of_a_method_is_mixed(tiny: Tiny, name: str, keys: dict[str, Any]) -> None:
    """Each is λ times that of the labels and 1 − λ times that of the others, computed by themselves."""
    method, experiment = load(name), tiny(method=name, **keys)
    frame = torch.randn(CLASSES, 16, generator=torch.Generator().manual_seed(2)) if METHODS[name].frame else None
    model = build_model(experiment, 3, CLASSES, frame, site="site-00").eval()
    broadcast = {key: p.detach().clone() for key, p in model.named_parameters()}
    images, labels = batch((8, 8))

    def losses(labels: torch.Tensor, mixed: Mixed | None = None) -> dict[str, torch.Tensor]:
        return method.losses(model, images, labels, LocalContext(experiment, COUNTS, broadcast, 50, mixed=mixed))

    own, others, found = losses(labels), losses(labels.roll(1)), losses(labels, Mix(0.3).labels(labels))
    assert found.keys() == own.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, 0.3 * own[key] + 0.7 * others[key])


def test_draws_follow_the_two_distributions() -> None:
    parts = [slice(start, start + 2) for start in range(0, 4000, 2)]
    mixes = draw_mixes(build({"mixup": 0.4, "cutmix": 1.0}), parts, (100, 50), np.random.default_rng(0))
    assert [*mixes] == [part.start for part in parts]
    up = np.array([mix.share for mix in mixes.values() if mix.box is None])
    cuts = [mix for mix in mixes.values() if mix.box is not None]
    assert 900 < len(up) < 1100
    assert abs(up.mean() - 0.5) < 0.05
    assert abs(up.var() - 0.25 / 1.8) < 0.02  # of Beta(α, α): 1 / (4 (2α + 1))
    for mix in cuts:
        assert mix.box is not None
        top, left, bottom, right = mix.box
        assert 0 <= top <= bottom <= 100
        assert 0 <= left <= right <= 50
        assert mix.share == pytest.approx(1 - (bottom - top) * (right - left) / 5000)


@pytest.mark.parametrize("keys", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}], ids=str)
def test_training_mixes_the_same_way_each_time(tiny: Tiny, keys: dict[str, Any]) -> None:
    def trained(server_round: int = 1, **keys: Any) -> torch.Tensor:
        site = simulated_site(tiny(method="fedavg", local_epochs=1, **keys), 0)
        model = build_model(site.experiment, site.dataset.train.channels, len(site.dataset.classes))
        train_site(model, load("fedavg"), site, server_round)
        assert model.aux_head is not None
        return model.aux_head.weight.detach()

    first = trained(**keys)
    assert torch.equal(first, trained(**keys))
    assert not torch.equal(first, trained())
    assert not torch.equal(first, trained(2, **keys))


@pytest.mark.parametrize("name", sorted(METHODS.keys() - set(MIXING)))
def test_a_method_whose_losses_cannot_be_mixed_refuses_both_keys(name: str) -> None:
    with pytest.raises(UserError) as caught:
        build({"method": name, "mixup": 0.2, "cutmix": 1})
    for key in ("mixup = 0.2", "cutmix = 1"):
        assert f"{key}: method '{name}' cannot learn from mixed labels" in str(caught.value)


def test_mixing_and_views_that_are_computed_once_contradict_each_other() -> None:
    views = {"cached-views": 4, "train-from": "stage2", "augment": "flip"}
    with pytest.raises(UserError, match="cached-views = 4: mixup and cutmix mix images before the stages that stand"):
        build({**views, "mixup": 0.2})


def test_mixed_images_pass_the_trunk_and_never_come_from_its_cache(tiny: Tiny, tmp_path: Path) -> None:
    """A trained model is the same, bit for bit, with and without the cache, which the whole images are in."""
    found = []
    for cached in (True, False):
        keys = {"train_from": "stage2", "image_cache": tmp_path, "trunk_cache": cached}
        folder = run_local(tiny(method="fedavg", cutmix=1.0, run_name=f"cached-{cached}", **keys))
        found.append(load_file(folder / "generic.safetensors"))
    assert found[0].keys() == found[1].keys()
    for name, array in found[0].items():
        assert np.array_equal(array, found[1][name]), name
