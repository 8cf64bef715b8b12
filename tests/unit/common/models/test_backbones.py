"""Backbones: shapes, sizes, initial weights and BatchNorm, one by one over the registry."""

import pytest
import torch

from common.architectures import BACKBONES
from common.config import Experiment, build
from common.errors import UserError
from common.models.backbones import Backbone, build_backbone, check_image_size

# Of these backbones; another may be added without a place in these tables.
FEATURE_DIM = {"cnn": 64, "resnet8": 64, "resnet20": 64, "resnet18": 512, "resnet34": 512, "resnet50": 2048}
# Millions of parameters with the publication's head: (classes, millions). ResNet-20: He et al. 2016, Table 6;
# ResNet-18/34: as widely reported for CIFAR-10; ResNet-50: torchvision's table. The others: formulas below.
PUBLISHED = {
    "resnet20": (10, 0.27),
    "resnet18": (10, 11.17),
    "resnet34": (10, 21.28),
    "resnet50": (1000, 25.557),
}
# Smallest side whose last map is larger than 1×1, so that BatchNorm can train on a batch of one.
ONE_IMAGE_SIDE = {"cnn": 8, "resnet8": 5, "resnet20": 5, "resnet18": 9, "resnet34": 9, "resnet50": 33}


def seeded(name: str, channels: int, width: int | None = None, seed: int = 0) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_backbone(name, channels, width)


def images(batch: int, channels: int, side: int) -> torch.Tensor:
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(1))


def count(model: Backbone) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_a_configuration_may_name_every_backbone_of_the_table() -> None:
    assert FEATURE_DIM.keys() <= BACKBONES.keys()
    assert [Experiment(backbone=name).model.backbone for name in BACKBONES] == [*BACKBONES]
    with pytest.raises(UserError) as caught:
        build({"backbone": "resnet19"})
    words = str(caught.value)
    assert "did you mean 'resnet1" in words and f"allowed: {', '.join(sorted(BACKBONES))}" in words


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone(name: str) -> None:
    side = ONE_IMAGE_SIDE.get(name, 33)
    for channels in (1, 3):
        model, twin = seeded(name, channels), seeded(name, channels)
        dim = FEATURE_DIM.get(name, model.feature_dim)
        assert model.feature_dim == dim
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))

        x = images(1, channels, side)  # one image, train mode, smallest map above 1×1
        features = model.train()(x)
        assert features.shape == (1, dim)
        assert features.dtype == torch.float32
        assert (features >= 0).all()
        assert torch.equal(features, twin.train()(x))

        features.square().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients)
        assert any(g is not None and g.any() for g in gradients)

        pair = images(2, channels, side)
        out = model.eval()(pair)
        assert out.shape == (2, dim)
        assert torch.equal(out, model(pair))
        torch.testing.assert_close(out[:1], model(pair[:1]), rtol=1e-3, atol=1e-4)  # eval: images do not mix
        assert model(pair[:0]).shape == (0, dim)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_count_is_the_published_one(name: str) -> None:
    classes, millions = PUBLISHED[name]
    model = seeded(name, 3)
    total = count(model) + (model.feature_dim + 1) * classes
    assert total / 1e6 == pytest.approx(millions, rel=0.012)  # option B's projections: 1 % of ResNet-20


@pytest.mark.parametrize("width", [None, 4, 24])
@pytest.mark.parametrize("channels", [1, 3])
def test_parameter_count_follows_width(width: int | None, channels: int) -> None:
    w = width or 16
    cnn = 9 * (channels * w + w * 2 * w + 2 * w * 4 * w) + 2 * (w + 2 * w + 4 * w)
    blocks = 9 * (2 * w * w + 2 * w * w + 4 * w * w + 8 * w * w + 16 * w * w)  # two convolutions each
    projections = 2 * w * w + 8 * w * w
    norms = 2 * (w + 2 * w + 3 * 2 * w + 3 * 4 * w)
    assert count(seeded("cnn", channels, width)) == cnn
    assert count(seeded("resnet8", channels, width)) == 9 * channels * w + blocks + projections + norms
    assert seeded("cnn", channels, width).feature_dim == 4 * w


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 20), (64, 64)])
def test_cnn_takes_any_size(size: tuple[int, int]) -> None:
    assert seeded("cnn", 1)(torch.rand(2, 1, *size)).shape == (2, 64)


@pytest.mark.parametrize("name", ["cnn", "resnet8", "resnet18"])
def test_one_image_with_a_map_of_one_pixel_is_refused_by_batchnorm(name: str) -> None:
    model = seeded(name, 1, width=4).train()
    side = ONE_IMAGE_SIDE[name] - 1
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(images(1, 1, side))
    assert model(images(2, 1, side)).shape == (2, model.feature_dim)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_smallest_image_passes_and_a_smaller_one_is_refused_before_torch_does(name: str) -> None:
    model, side = seeded(name, 1), BACKBONES[name].min_side
    for size in ((side, side), (side + 3, side), (side, side + 3)):
        check_image_size(name, size)
        assert model.eval()(torch.rand(1, 1, *size)).shape == (1, model.feature_dim)
        assert model.train()(torch.rand(2, 1, *size)).shape == (2, model.feature_dim)
    for size in ((side - 1, side), (side, side - 1)):
        with pytest.raises(UserError, match=rf"^images of {size[0]}×{size[1]} pixels .*'{name}', .* {side}×{side}; "):
            check_image_size(name, size)
        for mode, batch in ((model.eval(), 1), (model.train(), 2)):
            with pytest.raises(RuntimeError):
                mode(torch.zeros(batch, 1, *size))


def test_building_draws_from_the_global_generator_and_running_does_not() -> None:
    assert not torch.equal(next(seeded("cnn", 1, seed=0).parameters()), next(seeded("cnn", 1, seed=1).parameters()))
    model = seeded("resnet8", 1)
    before = torch.random.get_rng_state()
    model(images(2, 1, 8)).sum().backward()
    assert torch.equal(before, torch.random.get_rng_state())


def test_resnet50_keeps_torchvisions_names() -> None:
    from torchvision.models import resnet50

    theirs = {key: value.shape for key, value in resnet50(weights=None).state_dict().items() if key[:3] != "fc."}
    assert {key: value.shape for key, value in seeded("resnet50", 3, width=64).state_dict().items()} == theirs


def test_user_errors_are_one_line() -> None:
    with pytest.raises(
        UserError, match=r"^unknown backbone 'resnet19' \(did you mean 'resnet18'\?\); known: cnn, .*resnet8$"
    ):
        build_backbone("resnet19", 3)
    with pytest.raises(UserError, match=r"^unknown backbone 'cnm'"):
        check_image_size("cnm", (8, 8))
    with pytest.raises(UserError, match=r"^width = 32: resnet50"):
        build_backbone("resnet50", 3, 32)


@pytest.mark.parametrize("name", ["cnn", "resnet8"])
@pytest.mark.parametrize(
    ("channels_last", "precision", "tolerance"),
    [(True, "fp32", 1e-4), (False, "bf16", 0.1), (True, "bf16", 0.1), (False, "fp16", 0.05)],
)
def test_memory_format_and_precision_change_results_by_rounding_alone(
    name: str, channels_last: bool, precision: str, tolerance: float
) -> None:
    plain, tuned = seeded(name, 3), seeded(name, 3).set_format(channels_last, precision)
    batch = images(8, 3, 16)
    for model in (plain, tuned):
        features = model.train()(batch)
        assert features.dtype == torch.float32
        features.square().sum().backward()
    close = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(tuned(batch), plain(batch), **close)
    for (key, ours), theirs in zip(tuned.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        error = (ours.grad - theirs.grad).norm() / theirs.grad.norm()
        assert ours.dtype == torch.float32 and error < 3 * tolerance, key
