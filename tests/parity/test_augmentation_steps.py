"""Steps of `augment` against torchvision's transforms, image by image, and what holds for all of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from common.augmentations import STEPS
from common.config import build
from common.data.images.augmentation import Augmentation, augmentation_for

SIDE = 20
SMOOTH: dict[str, Any] = {"interpolation": InterpolationMode.BILINEAR}
REFERENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "rotate:30": v2.RandomRotation(30, **SMOOTH),
    "random-resized-crop:0.5": v2.RandomResizedCrop(SIDE, (0.5, 1), antialias=True, **SMOOTH),
    "color-jitter:0.1:0.2:0.3:0.4": v2.ColorJitter(0.1, 0.2, 0.3, 0.4),
    "randaugment:3:12": v2.RandAugment(3, 12, **SMOOTH),
    "trivialaugment": v2.TrivialAugmentWide(**SMOOTH),
}
ALL = [*STEPS, "flip+rotate:15+random-resized-crop:0.6"]


def pixels(images: int = 9, channels: int = 3) -> Tensor:
    noise = torch.rand(images, channels, 5, 5, generator=torch.Generator().manual_seed(4))
    return (torch.nn.functional.interpolate(noise, SIDE, mode="bilinear") * 255).to(torch.uint8)


def seeds(images: int = 9) -> Tensor:
    return torch.randint(1 << 62, (images,), generator=torch.Generator().manual_seed(8))


@pytest.mark.parametrize("text", REFERENCES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_step_is_torchvisions_from_the_images_seed(text: str, channels: int) -> None:
    batch = pixels(channels=channels)
    result = Augmentation(text).view(batch, seeds())
    with torch.random.fork_rng():
        for image, seed, view in zip(batch, seeds(), result, strict=True):
            torch.manual_seed(int(seed))
            assert torch.equal(REFERENCES[text](image), view)


def test_steps_act_one_after_the_other() -> None:
    both = Augmentation("flip+rotate:30").view(pixels(), seeds())
    with torch.random.fork_rng():
        for image, seed, view in zip(pixels(), seeds(), both, strict=True):
            torch.manual_seed(int(seed))
            turned = image.flip(-1) if float(torch.rand(1)) < 0.5 else image
            assert torch.equal(REFERENCES["rotate:30"](turned), view)


@pytest.mark.parametrize("text", ALL)
def test_a_view_depends_on_its_image_and_seed_alone(text: str) -> None:
    batch, own, augmentation = pixels(), seeds(), Augmentation(text)
    before, state = batch.clone(), torch.get_rng_state()
    together = augmentation.view(batch, own)
    order = torch.tensor([4, 0, 8, 2])
    assert together.shape == batch.shape
    assert together.dtype == torch.uint8
    assert torch.equal(augmentation.view(batch[order], own[order]), together[order])
    torch.rand(5)  # what others draw decides nothing
    state_after = torch.get_rng_state()
    assert torch.equal(augmentation.view(batch[3:4], own[3:4]), together[3:4])
    assert torch.equal(torch.get_rng_state(), state_after)
    assert not torch.equal(state, state_after)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("text", ALL)
def test_equal_images_of_a_batch_are_changed_differently(text: str) -> None:
    batch = pixels(1).expand(24, -1, -1, -1)
    views = Augmentation(text).view(batch, seeds(24))
    assert len({view.numpy().tobytes() for view in views}) >= (2 if text == "flip" else 8)


@pytest.mark.parametrize("text", ALL)
def test_an_epochs_draws_belong_to_their_images(text: str) -> None:
    batch, augmentation = pixels(), augmentation_for(build({"augment": text}))
    drawn = [augmentation.epoch([5, 4], torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    first, again, other = (augmentation.apply(batch, draws) for draws in drawn)
    draws = drawn[0]
    assert draws is not None
    parts = [augmentation.apply(batch[part], draws.cut(part)) for part in (slice(0, 5), slice(5, 9))]
    assert torch.equal(first, again)
    assert torch.equal(first, torch.cat(parts))
    assert not torch.equal(first, other)


def test_without_steps_nothing_is_drawn() -> None:
    augmentation, generator = Augmentation("none"), torch.Generator().manual_seed(0)
    state = generator.get_state()
    assert augmentation.epoch([4], generator) is None
    assert torch.equal(generator.get_state(), state)
    assert torch.equal(augmentation.view(pixels(), seeds()), pixels())


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("flip", "flip"),
        ("rotate", "rotate:15"),
        (["flip", {"rotate": 20}, {"color-jitter": [0.1, 0]}], "flip+rotate:20+color-jitter:0.1:0:0.2:0"),
        ("randaugment:3", "randaugment:3:9"),
        (["none"], "none"),
    ],
)
def test_a_list_and_a_text_are_the_same(written: object, text: str) -> None:
    experiment = build({"train": {"augment": written}})
    assert experiment.train.augment == text
    assert build({"augment": text}) == experiment
