"""Images are resized with the filter that a backbone's weights expect, and no cache mixes the filters."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from common.config import Experiment, build
from common.data import build_federation, load_dataset
from common.data.images.encoded import FileImages
from common.data.images.pixel_cache import cached, content_name
from common.data.images.pretrained import interpolation_of
from common.data.images.source import Interpolation, array_images, fit, read_image
from common.data.sources.dataset import Dataset

RNG = np.random.default_rng(0)
FILTERS: tuple[Interpolation, ...] = get_args(Interpolation)
ROWS = np.arange(6, dtype=np.int64)


def experiment(backbone: str, weights: str = "imagenet", **keys: object) -> Experiment:
    values = {"dataset": "digits", "backbone": backbone, "weights": weights, "image-size": 12}
    return build(values | {name.replace("_", "-"): value for name, value in keys.items()})


def pixels(dataset: Dataset) -> torch.Tensor:
    return dataset.train.batch(ROWS)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (9, 9), (40, 80), (96, 32), (24, 24)])
def test_images_are_resized_as_torchvision_resizes_them(
    interpolation: Interpolation, channels: int, height: int, width: int, tmp_path: Path
) -> None:
    x = RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)
    image = Image.fromarray(x[..., 0] if channels == 1 else x)
    theirs = CenterCrop(24)(Resize(24, InterpolationMode(interpolation), antialias=True)(image))
    assert np.array_equal(np.asarray(fit(image, 24, interpolation)), np.asarray(theirs))
    expected = np.asarray(theirs).reshape(24, 24, channels).transpose(2, 0, 1)
    held = array_images(x[None], np.zeros(1, np.int64), 24, interpolation)
    assert np.array_equal(held.pixels[0], expected)
    image.save(tmp_path / "x.png")
    files = FileImages([tmp_path / "x.png"], np.zeros(1, np.int64), 24, interpolation=interpolation)
    assert np.array_equal(files.batch(ROWS[:1])[0].numpy(), expected)
    assert np.array_equal(read_image(tmp_path / "x.png", channels, (24, 24), interpolation=interpolation), expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((f"torchvision:{name}", "bilinear") for name in ("resnet18", "mobilenet_v2", "convnext_tiny", "googlenet")),
        *((f"torchvision:{name}", "bicubic") for name in ("efficientnet_b0", "swin_t")),
        ("cnn", "bicubic"),
        ("resnet18", "bicubic"),
    ],
)
def test_the_default_is_what_the_weights_expect(name: str, expected: str) -> None:
    weights = "imagenet" if ":" in name else "run:before"
    assert interpolation_of(experiment(name, weights)) == expected
    assert interpolation_of(experiment(name, "none")) == "bicubic"
    for given in FILTERS:
        assert interpolation_of(experiment(name, weights, interpolation=given)) == given


def test_torchvisions_weights_expect_no_other_filter() -> None:
    found = {
        models.get_model_weights(name).DEFAULT.transforms().interpolation.value
        for name in models.list_models(module=models)
    }
    assert found == set(FILTERS)


def test_data_sets_of_one_process_share_pixels_of_one_filter_alone() -> None:
    bilinear, bicubic = experiment("torchvision:resnet18"), experiment("torchvision:efficientnet_b0")
    one, other, own = map(load_dataset, (bilinear, bicubic, experiment("cnn", "none")))
    assert not torch.equal(pixels(one), pixels(other))
    assert torch.equal(pixels(other), pixels(own))
    for asked, expected in ((bilinear, one), (bicubic, other)):
        again = load_dataset(asked)
        assert torch.equal(pixels(again), pixels(expected))
        assert torch.equal(pixels(build_federation(asked).dataset), pixels(again))
    assert load_dataset(experiment("torchvision:mobilenet_v2")) is load_dataset(bilinear)
    assert torch.equal(pixels(load_dataset(experiment("cnn", "none", interpolation="bilinear"))), pixels(one))
    stored = load_dataset(experiment("cnn", "none", image_size=None))  # nothing is resized
    assert load_dataset(experiment("torchvision:resnet18", image_size=None)) is stored


def test_composites_are_resized_so_too() -> None:
    keys = {"composites": 20, "composites_test": 10, "method": "fedavg", "sites": 2, "image_size": 9}
    one, other, own = (
        build_federation(experiment(name, weights, **keys)).dataset
        for name, weights in (
            ("torchvision:resnet18", "imagenet"),
            ("torchvision:efficientnet_b0", "imagenet"),
            ("cnn", "none"),
        )
    )
    assert one.train.size == (9, 9)
    assert not torch.equal(pixels(one), pixels(other)) and torch.equal(pixels(other), pixels(own))


def test_decoded_images_of_another_filter_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(RNG.integers(0, 256, (20, 20), dtype=np.uint8)).save(path)
    sources = [FileImages([path], np.zeros(1, np.int64), 8, interpolation=name) for name in FILTERS]
    kept = [cached(source, tmp_path / "cache")[0] for source in sources]
    assert len({content_name(images) for images in kept}) == len({content_name(s) for s in sources}) == 2
    for images, name in zip(kept, FILTERS, strict=True):
        expected = read_image(path, 1, (8, 8), interpolation=name)
        assert np.array_equal(images.batch(ROWS[:1])[0].numpy(), expected)
    stored = {FileImages([path], np.zeros(1, np.int64), interpolation=name).transform for name in FILTERS}
    assert len(stored) == 1  # nothing is resized
