"""Multi-label images composed of single-label ones: two of different classes on one canvas.

In the manner of studies of multi-label neural collapse (Li et al., ICML 2024, https://arxiv.org/abs/2310.15903):
the two images lie in opposite corners of a black canvas, and where they overlap the brighter pixel wins. Call
`compose` once for the training images and once for the test images, so that no image is on both sides, as
`composite_dataset` does.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.config import Experiment
from common.data.images.pretrained import interpolation_of
from common.data.images.source import ArrayImages, ImageSource, Interpolation, array_images
from common.data.sources.dataset import Dataset, training_moments
from common.errors import UserError
from common.seeds import numpy_generator

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

_CHUNK = 1024  # composites drawn at once, before they shrink


@dataclass(frozen=True, eq=False)
class Composites:
    """M images with one or two labels each.

    Attributes:
        pixels: uint8 [M, channels, S, S].
        labels: bool [M, C].
        sources: [M, 2] rows of the images that each is made of; −1 in the second place of a single one.
    """

    pixels: Pixels
    labels: npt.NDArray[np.bool_]
    sources: Integers


def composite_dataset(dataset: Dataset, rows: Integers, experiment: Experiment) -> Dataset:
    """Return a multi-label data set: composites of these training rows, and others of all test images.

    The test composites are the same for every seed, so that runs of different seeds can be compared. Sites and
    groups are left out: the two images of a composite may have two.

    Args:
        dataset: the single-label images.
        rows: of its training images, those that the long tail leaves.
        experiment: counts, canvas, share of single ones, image size, seed.

    Raises:
        UserError: see `compose`.
    """

    def made(source: ImageSource, chosen: Integers, count: int, generator: np.random.Generator) -> ArrayImages:
        shown = compose(
            source.batch(chosen).numpy(),
            np.asarray(source.labels[chosen], np.int64),
            *(len(dataset.classes), count, generator, experiment.data.composite_canvas),
            *(experiment.data.composite_single_share, experiment.data.image_size, interpolation_of(experiment)),
        )
        return ArrayImages(shown.pixels, shown.labels)

    seed, tests = experiment.run.seed, np.arange(len(dataset.test))
    train = made(dataset.train, rows, experiment.data.composites or 0, numpy_generator(seed, "composites-train"))
    test = made(dataset.test, tests, experiment.data.composites_test, numpy_generator(0, "composites-test"))
    mean, std = training_moments(train)
    name, notes = f"{dataset.name} composites", dataset.notes
    if dataset.train_groups is not None and experiment.sites.keep_patients:
        notes += ("a composite is made of two images: patients are not kept together at one site",)
    return Dataset(name, dataset.classes, train, test, mean, std, notes=notes)


def compose(
    pixels: Pixels,
    labels: Integers,
    num_classes: int,
    count: int,
    generator: np.random.Generator,
    canvas: float = 1.5,
    single_share: float = 0.0,
    image_size: int | None = None,
    interpolation: Interpolation = "bicubic",
) -> Composites:
    """Make `count` composites; the first image of each takes its turn, so that all are used about equally often.

    The second is drawn evenly from all images of other classes: a long tail of the sources stays one. Either
    diagonal is as likely, and either order. A single image lies in any of the four corners.

    Args:
        pixels: uint8 [N, channels, H, H], square, grey or RGB.
        labels: [N] their classes.
        num_classes: C.
        count: M.
        generator: the only source of randomness.
        canvas: side of the canvas over that of an image, at least 1 (they cover each other); rounded to pixels.
            From 2 on the two do not touch.
        single_share: share of composites, in 0..1, that show one image alone; rounded to whole images.
        image_size: the canvas is resized to this many pixels a side; None: it keeps its size.
        interpolation: by which it is resized.

    Raises:
        UserError: no images or such that are not square, a canvas below 1, a share outside 0..1, or pairs from
            one class alone.
    """
    _check(pixels, labels, canvas, single_share)
    singles = round(single_share * count)
    sources = np.full((count, 2), -1, np.int64)
    turns = [generator.permutation(len(pixels)) for _ in range(-(-count // len(pixels)))]
    sources[:, 0] = np.concatenate([np.empty(0, np.int64), *turns])[:count]
    paired = np.sort(generator.permutation(count)[singles:])
    sources[paired, 1] = _partners(sources[paired, 0], labels, generator)
    flags = np.zeros((count, num_classes), np.bool_)
    for column in sources.T:
        flags[np.flatnonzero(column >= 0), labels[column[column >= 0]]] = True
    corners = generator.integers(0, 2, size=(count, 2))  # of the first image: bottom?, right?
    side = round(canvas * pixels.shape[2])
    out = np.empty((count, pixels.shape[1], image_size or side, image_size or side), np.uint8)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        drawn = _draw(pixels, sources[part], corners[part], side)
        canvases = drawn.transpose(0, 2, 3, 1)
        out[part] = array_images(canvases, sources[part, 0], image_size, interpolation).pixels
    return Composites(out, flags, sources)


def _check(pixels: Pixels, labels: Integers, canvas: float, single_share: float) -> None:
    height, width = pixels.shape[2:]
    if height != width:
        raise UserError(f"composites need square images, these are {height}×{width} pixels; choose another data set")
    if canvas < 1:
        raise UserError(f"composite-canvas = {canvas:g}: must be at least 1, the side of one image")
    if not 0 <= single_share <= 1:
        raise UserError(f"composite-single-share = {single_share:g}: must be from 0 to 1")
    if not len(labels):
        raise UserError("composites need images, and there are none")
    if single_share < 1 and labels.min() == labels.max():
        raise UserError(
            "composites need images of at least two classes; set composite-single-share to 1, or add classes"
        )


def _partners(first: Integers, labels: Integers, generator: np.random.Generator) -> Integers:
    """Return for each row of `first` a row of another class, evenly among all of them."""
    by_class = np.argsort(labels, kind="stable")
    ordered = labels[by_class]
    begin, end = (np.searchsorted(ordered, labels[first], side=side) for side in ("left", "right"))
    # A draw from all places but the class's own: those behind it move up.
    place = generator.integers(0, len(labels) - (end - begin))
    return by_class[np.where(place >= begin, place + end - begin, place)]


def _draw(pixels: Pixels, sources: Integers, corners: Integers, side: int) -> Pixels:
    """Lay sources [m, 2] on black canvases [m, channels, side, side], the first in its corner [m, 2]."""
    size = pixels.shape[2]
    drawn = np.zeros((len(sources), pixels.shape[1], side, side), np.uint8)
    for bottom in (0, 1):
        for right in (0, 1):
            here = drawn[:, :, bottom * (side - size) :, right * (side - size) :][:, :, :size, :size]
            for position, corner in ((0, corners), (1, 1 - corners)):
                chosen = (corner == (bottom, right)).all(axis=1) & (sources[:, position] >= 0)
                here[chosen] = np.maximum(here[chosen], pixels[sources[chosen, position]])
    return drawn
