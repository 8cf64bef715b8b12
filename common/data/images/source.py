"""Where pixels come from: what every source of images answers, a resident array, and an image fitted to a size."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from common.data.images.decoding import is_grey, open_image
from common.data.images.levels import Depth
from common.errors import UserError

Labels = npt.NDArray[np.int64] | npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]
Interpolation = Literal["bicubic", "bilinear"]

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class ImageSource(Protocol):
    """N labelled images of one size.

    Attributes:
        labels: [N] class indices; bool [N, C] where an image may carry several labels, or none.
        channels: 1 (grey) or 3 (RGB).
        size: (H, W) in pixels.
    """

    @property
    def labels(self) -> Labels: ...  # noqa: D102
    @property
    def channels(self) -> int: ...  # noqa: D102
    @property
    def size(self) -> tuple[int, int]: ...  # noqa: D102

    def __len__(self) -> int: ...

    def batch(self, rows: Rows) -> torch.Tensor:
        """Return the images of these rows as uint8 [B, C, H, W] on the CPU."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images held in memory: `pixels` [N, channels, H, W] uint8, `labels` [N] or [N, C]."""

    pixels: Pixels
    labels: Labels

    @property
    def channels(self) -> int:
        """1 or 3."""
        return int(self.pixels.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return int(self.pixels.shape[2]), int(self.pixels.shape[3])

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Rows) -> torch.Tensor:
        """Return the images of these rows as uint8 [B, C, H, W]."""
        return torch.from_numpy(self.pixels[rows])


def array_images(
    x: Pixels, labels: Labels, image_size: int | None = None, interpolation: Interpolation = "bicubic"
) -> ArrayImages:
    """Hold `x` [N, H, W] or [N, H, W, C] in memory, each image fitted to `image_size` (see `fit`)."""
    if x.ndim == 3:
        x = x[..., None]
    if image_size and x.shape[1:3] != (image_size, image_size):
        squeezed = x[..., 0] if x.shape[3] == 1 else x
        fitted = [np.asarray(fit(Image.fromarray(image), image_size, interpolation)) for image in squeezed]
        x = np.stack(fitted).reshape(len(x), image_size, image_size, x.shape[3])
    return ArrayImages(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), labels)


def fit(image: Image.Image, image_size: int, interpolation: Interpolation = "bicubic") -> Image.Image:
    """Resize the short side to `image_size` and cut the square in the centre.

    Either filter of Pillow's widens where an image shrinks: torchvision's `Resize` with antialias.
    """
    scale = image_size / min(image.size)
    width, height = (max(image_size, round(side * scale)) for side in image.size)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    resized = image.resize((width, height), _FILTERS[interpolation])
    return resized.crop((left, top, left + image_size, top + image_size))


def fit_name(image_size: int | None, interpolation: Interpolation) -> str:
    """Return what tells one way of fitting from another: other text, other pixels."""
    return f"{image_size}" if image_size is None or interpolation == "bicubic" else f"{image_size} {interpolation}"


def moments(source: ImageSource, at_most: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel in 0..1 units, to 4 digits.

    Counted on at most `at_most` images, evenly spaced over the rows, so that every process finds the same
    values. A channel without any variation gets standard deviation 1.
    """
    rows = np.unique(np.linspace(0, len(source) - 1, min(len(source), at_most)).astype(np.int64))
    counts = np.zeros((source.channels, 256), np.int64)
    for chunk in _chunks(rows, 512):
        pixels = source.batch(chunk).numpy()
        for channel in range(source.channels):
            counts[channel] += np.bincount(pixels[:, channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
    return tuple(round(float(m), 4) for m in mean), tuple(round(float(s), 4) or 1.0 for s in std)


def relabelled(labels: Labels, columns: Sequence[int], num_classes: int) -> Labels:
    """Return labels in the words of other classes, of which some may be absent, and several may become one.

    Args:
        labels: [N] indices or bool [N, len(columns)].
        columns: the index that each class has among the others.
        num_classes: how many others there are.
    """
    if labels.dtype != np.bool_:
        return np.array(columns, np.int64)[labels]
    found = np.zeros((len(labels), num_classes), np.bool_)
    for old, new in enumerate(columns):
        found[:, new] |= labels[:, old] > 0
    return found


def _chunks(rows: Rows, size: int) -> Iterable[Rows]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def read_bytes(path: Path, what: str) -> bytes:
    """Return a file's bytes; raise `UserError` where it cannot be read."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error  # without the path, which `what` has
        raise UserError(f"{what}: not a readable image ({why}); replace or remove it") from None


def to_pixels(
    image: Image.Image,
    what: str,
    channels: int,
    image_size: int | None,
    size: tuple[int, int],
    convert: bool = False,
    interpolation: Interpolation = "bicubic",
) -> Pixels:
    """Return uint8 [channels, H, W]; `convert`: colour may become grey."""
    if channels == 1 and not is_grey(image) and not convert:
        raise UserError(f"{what}: is a colour image ({image.mode}), but the first one is grey; store all of them alike")
    image = image.convert("L" if channels == 1 else "RGB")
    if image_size:
        image = fit(image, image_size, interpolation)
    if (image.height, image.width) != size:
        raise UserError(
            f"{what}: is {image.height}×{image.width} pixels, but the first image is {size[0]}×{size[1]}; "
            "set image-size"
        )
    pixels = np.asarray(image, np.uint8)
    return pixels.reshape(*size, channels).transpose(2, 0, 1)


def read_image(
    path: Path,
    channels: int,
    size: tuple[int, int],
    depth: Depth = "percentile",
    interpolation: Interpolation = "bicubic",
) -> Pixels:
    """Return one image file as a model takes it, uint8 [channels, H, W].

    It is made grey or RGB, and fitted to a square `size` as `fit` does; `depth`: see `open_image`.

    Raises:
        UserError: it cannot be read, or has another size where the model's is no square.
    """
    side = size[0] if size[0] == size[1] else None
    image = open_image(read_bytes(path, str(path)), str(path), depth, side)
    if side is None and (image.height, image.width) != size:
        raise UserError(f"{path}: is {image.height}×{image.width} pixels, the model takes {size[0]}×{size[1]}")
    return to_pixels(image, str(path), channels, side, size, True, interpolation)
