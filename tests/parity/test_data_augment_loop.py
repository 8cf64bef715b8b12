"""Vectorised augmentation and normalisation against loops over images and pixels."""

import pytest
import torch

from common.data.images.augmentation import Augmentation, augment, draw
from common.data.images.transforms import prepare


def naive(batch: torch.Tensor, kind: str, generator: torch.Generator) -> torch.Tensor:
    size, _, height, width = batch.shape
    flips = torch.rand(size, generator=generator) < 0.5
    shifts = torch.full((2, size), 4)
    if kind == "crop-flip":
        shifts = torch.randint(0, 9, (2, size), generator=generator)
    out = torch.zeros_like(batch)
    for i in range(size):
        for y in range(height):
            for x in range(width):
                column = width - 1 - x if flips[i] else x
                from_y, from_x = y + int(shifts[0, i]) - 4, column + int(shifts[1, i]) - 4
                if 0 <= from_y < height and 0 <= from_x < width:
                    out[i, :, y, x] = batch[i, :, from_y, from_x]
    return out


@pytest.mark.parametrize("kind", ["none", "flip", "crop-flip"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(17, 3, 6, 9), (1, 1, 8, 8)])
def test_augment_equals_a_loop(kind: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    batch = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = batch.clone()
    augmentation = Augmentation(kind)
    result = augmentation.apply(batch, augmentation.epoch([len(batch)], torch.Generator().manual_seed(7)))
    expected = naive(batch, kind, torch.Generator().manual_seed(7)) if kind != "none" else batch
    assert result.dtype == dtype
    assert torch.equal(result, expected)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("kind", ["flip", "crop-flip"])
def test_an_epoch_drawn_at_once_is_what_batch_after_batch_draws(kind: str) -> None:
    images = torch.randint(0, 256, (20, 3, 8, 8), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    augmentation = Augmentation(kind)
    draws = augmentation.epoch([8, 8, 4], torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    assert draws is not None
    for part in (slice(0, 8), slice(8, 16), slice(16, 20)):
        expected = naive(images[part], kind, generator)
        assert torch.equal(augmentation.apply(images[part], draws.cut(part)), expected)


def test_both_flips_and_all_shifts_happen() -> None:
    batch = torch.zeros(400, 1, 9, 9, dtype=torch.uint8)
    batch[:, :, 4, 4] = 1
    moved = augment(batch, draw("crop-flip", 400, torch.Generator().manual_seed(0)))
    assert (moved.sum(dim=(1, 2, 3)) == 1).all()
    assert (moved.sum(dim=(0, 1)) > 0).all()
    sided = torch.zeros(200, 1, 2, 2, dtype=torch.uint8)
    sided[..., 0] = 1
    left = augment(sided, draw("flip", 200, torch.Generator().manual_seed(0)))[:, 0, 0, 0].float().mean()
    assert 0.35 < left < 0.65


def test_prepare_normalises_each_channel() -> None:
    batch = torch.randint(0, 256, (4, 3, 5, 5), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    result = prepare(batch, mean, std, "cpu")
    assert result.dtype == torch.float32
    for channel in range(3):
        expected = (batch[:, channel].double() / 255 - mean[channel]) / std[channel]
        assert torch.allclose(result[:, channel].double(), expected, atol=1e-6)
