"""Composites: what lies where, which labels, which images, and that a generator decides it all."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.data.federation.composites import Composites, compose

SIZE, CLASSES = 6, 4


def images(count: int, seed: int = 0, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], generator.integers(0, CLASSES, max(count - 2, 0))])[:count]
    return generator.integers(1, 256, (count, channels, SIZE, SIZE)).astype(np.uint8), labels


def naive(first: np.ndarray, second: np.ndarray | None, bottom: int, right: int, side: int) -> np.ndarray:
    """Lay one image in its corner and the other in the opposite one, pixel by pixel."""
    canvas = np.zeros((len(first), side, side), np.uint8)
    for image, (down, across) in ((first, (bottom, right)), (second, (1 - bottom, 1 - right))):
        if image is None:
            continue
        for y in range(SIZE):
            for x in range(SIZE):
                at = (slice(None), y + down * (side - SIZE), x + across * (side - SIZE))
                canvas[at] = np.maximum(canvas[at], image[:, y, x])
    return canvas


def corner_of(made: Composites, pixels: np.ndarray, i: int) -> list[tuple[int, int]]:
    """Return the corners of the first image that explain composite i."""
    first, second = made.sources[i]
    partner = None if second < 0 else pixels[second]
    side = made.pixels.shape[2]
    corners = [(bottom, right) for bottom in (0, 1) for right in (0, 1)]
    return [c for c in corners if np.array_equal(made.pixels[i], naive(pixels[first], partner, *c, side))]


@given(
    st.integers(2, 30),
    st.integers(0, 40),
    st.sampled_from([1.0, 1.25, 1.5, 2.0, 2.5]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 2**31),
)
def test_two_images_of_different_classes_lie_in_opposite_corners(
    sources: int, count: int, canvas: float, single_share: float, seed: int
) -> None:
    pixels, labels = images(sources, seed)
    made = compose(pixels, labels, CLASSES, count, np.random.default_rng(seed), canvas, single_share)
    assert made.pixels.shape == (count, 3, round(canvas * SIZE), round(canvas * SIZE))
    assert made.pixels.dtype == np.uint8 and made.labels.dtype == np.bool_
    assert (made.sources[:, 1] < 0).sum() == round(single_share * count)
    for i, (first, second) in enumerate(made.sources.tolist()):
        assert corner_of(made, pixels, i)
        shown = {int(labels[first])} | ({int(labels[second])} if second >= 0 else set())
        assert len(shown) == (2 if second >= 0 else 1)
        assert set(np.flatnonzero(made.labels[i]).tolist()) == shown
    used = np.bincount(made.sources[:, 0], minlength=sources)
    assert used.max() - used.min() <= 1  # first images take turns


def test_a_generator_decides_everything_and_nothing_else_does() -> None:
    pixels, labels = images(20)
    before = pixels.copy()
    one, same, other = (
        compose(pixels, labels, CLASSES, 50, np.random.default_rng(s), single_share=0.2) for s in (1, 1, 2)
    )
    assert all(np.array_equal(vars(one)[name], vars(same)[name]) for name in vars(one))
    assert not np.array_equal(one.sources, other.sources)
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("single_share", [0.0, 1.0])
def test_all_four_corners_are_about_as_likely(single_share: float) -> None:
    pixels, labels = images(10)
    made = compose(pixels, labels, CLASSES, 800, np.random.default_rng(0), single_share=single_share)
    found = [corner for i in range(800) for corner in corner_of(made, pixels, i)]
    assert len(found) == 800
    assert min(found.count(corner) for corner in set(found)) > 150 and len(set(found)) == 4


def test_partners_are_drawn_evenly_from_all_other_classes() -> None:
    labels = np.array([0, 2, 0, 1, 0, 2, 3, 0])
    pixels = np.zeros((8, 1, SIZE, SIZE), np.uint8)
    made = compose(pixels, labels, CLASSES, 16_000, np.random.default_rng(0))
    for row in range(8):
        partners = made.sources[made.sources[:, 0] == row, 1]
        times = np.bincount(partners, minlength=8)
        others = labels != labels[row]
        assert (times[~others] == 0).all()
        assert np.allclose(times[others], 2000 / others.sum(), rtol=0.25)


def test_many_composites_are_those_of_one_pass() -> None:
    """More than are drawn at once."""
    pixels, labels = images(30, channels=1)
    made = compose(pixels, labels, CLASSES, 2500, np.random.default_rng(0))
    assert all(corner_of(made, pixels, i) for i in (0, 1023, 1024, 2048, 2499))


def test_a_smaller_size_is_the_canvas_resized() -> None:
    pixels, labels = images(10)
    large = compose(pixels, labels, CLASSES, 12, np.random.default_rng(3))
    small = compose(pixels, labels, CLASSES, 12, np.random.default_rng(3), image_size=SIZE)
    assert small.pixels.shape == (12, 3, SIZE, SIZE)
    assert np.array_equal(small.labels, large.labels)
    for whole, shrunk in zip(large.pixels, small.pixels, strict=True):
        picture = Image.fromarray(whole.transpose(1, 2, 0)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        assert np.array_equal(np.asarray(picture).transpose(2, 0, 1), shrunk)
    same = compose(pixels, labels, CLASSES, 12, np.random.default_rng(3), image_size=9)
    assert np.array_equal(same.pixels, large.pixels)


def test_impossible_composites_are_refused(error_of: Callable[[Callable[[], object]], str]) -> None:
    pixels, labels = images(10)
    generator = np.random.default_rng(0)

    def refused(changed: np.ndarray = pixels, classes: np.ndarray = labels, **options: float) -> str:
        return error_of(lambda: compose(changed, classes, CLASSES, 5, generator, **options))  # type: ignore[arg-type]

    assert "these are 6×5 pixels" in refused(pixels[..., :5])
    assert "canvas = 0.9" in refused(canvas=0.9)
    assert "single-share = 1.2" in refused(single_share=1.2)
    assert "at least two classes" in refused(classes=np.zeros_like(labels))
    assert "there are none" in refused(pixels[:0], labels[:0], single_share=1)
    alone = compose(pixels, np.zeros_like(labels), CLASSES, 5, generator, single_share=1)
    assert alone.labels[:, 0].all() and not alone.labels[:, 1:].any()
