"""Where pixels come from: a resident array, or image files that are decoded when a batch asks for them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from common.data.bad_images import BadImagesError, Failure
from common.data.decoding import is_grey, open_image
from common.data.levels import Depth
from common.errors import UserError

Labels = npt.NDArray[np.int64] | npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

_CACHE_BYTES = (
    1 << 30
)  # decoded files are kept up to this size: small images would cost more to decode than to train on


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


class FileImages:
    """Image files, decoded when a batch asks for them and kept if all of them fit a modest cache.

    Args:
        paths: N files.
        labels: [N] or [N, C], theirs.
        image_size: fitted to this many pixels a side; None: every file must have the first one's size.
        channels: 1 or 3: every image is made grey, or RGB; None: the first file decides, and a colour image after
            a grey one is an error.
        places: where each file was listed, for errors; None: the file itself is named.
        depth: how more than 8 bits become 8, see `open_image`.

    Raises:
        UserError: on construction or in `batch`, naming the file that cannot be read or does not fit.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Labels,
        image_size: int | None = None,
        channels: int | None = None,
        places: Sequence[str] | None = None,
        depth: Depth = "percentile",
    ) -> None:
        self.labels = labels
        self._depth: Depth = depth
        self._paths = list(paths)
        self._places = places
        self._image_size = image_size
        self._convert = channels is not None
        first = self._first()
        self.channels = channels or (1 if is_grey(first) else 3)
        self.size = (image_size, image_size) if image_size else (first.height, first.width)
        shape = (len(self._paths), self.channels, *self.size)
        # Pages of an empty array take no memory until a row is written.
        self._kept: Pixels | None = np.empty(shape, np.uint8) if np.prod(shape) <= _CACHE_BYTES else None
        self._is_kept = np.zeros(len(self._paths), np.bool_)

    def __len__(self) -> int:
        return len(self._paths)

    def batch(self, rows: Rows) -> torch.Tensor:
        """Return the images of these rows as uint8 [B, C, H, W]."""
        out = np.empty((len(rows), self.channels, *self.size), np.uint8)
        for position, row in enumerate(rows):
            if self._kept is None:
                out[position] = self._decode(row)
                continue
            if not self._is_kept[row]:
                self._kept[row] = self._decode(row)
                self._is_kept[row] = True
            out[position] = self._kept[row]
        return torch.from_numpy(out)

    def check(self) -> list[Failure]:
        """Decode all images; return the rows and reasons of those that cannot be."""
        failures = []
        for row in range(len(self)):
            try:
                self.batch(np.array([row]))
            except UserError as error:
                failures.append((row, str(error)))
        return failures

    def _first(self) -> Image.Image:
        """Return the first image that can be read."""
        failures: list[Failure] = []
        for row in range(len(self)):
            try:
                return self._open(row)
            except UserError as error:
                failures.append((row, str(error)))
        raise BadImagesError(failures, len(self))

    def _decode(self, row: int) -> Pixels:
        image, what = self._open(row), self._name(row)
        return _to_pixels(image, what, self.channels, self._image_size, self.size, self._convert)

    def _open(self, row: int) -> Image.Image:
        return _read(self._paths[row], self._name(row), self._depth)

    def _name(self, row: int) -> str:
        return f"{self._places[row]}: {self._paths[row]}" if self._places else str(self._paths[row])


def array_images(x: Pixels, labels: Labels, image_size: int | None = None) -> ArrayImages:
    """Hold `x` [N, H, W] or [N, H, W, C] in memory, each image fitted to `image_size` (see `fit`)."""
    if x.ndim == 3:
        x = x[..., None]
    if image_size and x.shape[1:3] != (image_size, image_size):
        squeezed = x[..., 0] if x.shape[3] == 1 else x
        fitted = [np.asarray(fit(Image.fromarray(image), image_size)) for image in squeezed]
        x = np.stack(fitted).reshape(len(x), image_size, image_size, x.shape[3])
    return ArrayImages(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), labels)


def byte_images(
    data: Pixels,
    offsets: npt.NDArray[np.int64],
    rows: Rows,
    labels: Labels,
    image_size: int | None,
    what: str,
    depth: Depth = "percentile",
) -> ArrayImages:
    """Decode image files that lie end to end in `data`, and hold them in memory.

    Args:
        data: [bytes] uint8.
        offsets: [n + 1] starts; file i is data[offsets[i] : offsets[i + 1]].
        rows: which of the n files, in this order.
        labels: [len(rows)] or [len(rows), C], theirs.
        image_size: fitted to this many pixels a side; None: as stored, all of one size.
        what: names the data in errors.
        depth: see `open_image`.

    Raises:
        BadImagesError: naming all rows that cannot be decoded or have another size.
    """

    def image(row: int) -> Image.Image:
        return open_image(data[offsets[row] : offsets[row + 1]].tobytes(), f"{what}[{row}]", depth)

    channels, size, pixels, failures = 0, (0, 0), np.empty(0, np.uint8), []
    for position, row in enumerate(rows.tolist()):
        try:
            opened = image(row)
            if not pixels.size:  # the first one that can be read
                size = (image_size, image_size) if image_size else (opened.height, opened.width)
                channels = 1 if is_grey(opened) else 3
                pixels = np.empty((len(rows), channels, *size), np.uint8)
            pixels[position] = _to_pixels(opened, f"{what}[{row}]", channels, image_size, size)
        except UserError as error:
            failures.append((position, str(error)))
    if failures:
        raise BadImagesError(failures, len(rows))
    return ArrayImages(pixels, labels)


def fit(image: Image.Image, image_size: int) -> Image.Image:
    """Resize the short side to `image_size` (bicubic) and cut the square in the centre."""
    scale = image_size / min(image.size)
    width, height = (max(image_size, round(side * scale)) for side in image.size)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + image_size, top + image_size))


def moments(source: ImageSource, at_most: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel in 0..1 units, to 4 digits.

    Counted on at most `at_most` images, evenly spaced over the rows, so that every process finds the same
    figures. A channel without any variation gets standard deviation 1.
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


def _read(path: Path, what: str, depth: Depth) -> Image.Image:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{what}: not a readable image ({error}); replace or remove it") from None
    return open_image(data, what, depth)


def _to_pixels(
    image: Image.Image,
    what: str,
    channels: int,
    image_size: int | None,
    size: tuple[int, int],
    convert: bool = False,
) -> Pixels:
    """Return uint8 [channels, H, W]; `convert`: colour may become grey."""
    if channels == 1 and not is_grey(image) and not convert:
        raise UserError(f"{what}: is a colour image ({image.mode}), but the first one is grey; store all of them alike")
    image = image.convert("L" if channels == 1 else "RGB")
    if image_size:
        image = fit(image, image_size)
    if (image.height, image.width) != size:
        raise UserError(
            f"{what}: is {image.height}×{image.width} pixels, but the first image is {size[0]}×{size[1]}; "
            "set image-size"
        )
    pixels = np.asarray(image, np.uint8)
    return pixels.reshape(*size, channels).transpose(2, 0, 1)


def read_image(path: Path, channels: int, size: tuple[int, int], depth: Depth = "percentile") -> Pixels:
    """Return one image file as a model takes it, uint8 [channels, H, W].

    It is made grey or RGB, and fitted to a square `size` as `fit` does; `depth`: see `open_image`.

    Raises:
        UserError: it cannot be read, or has another size where the model's is no square.
    """
    image, side = _read(path, str(path), depth), size[0] if size[0] == size[1] else None
    if side is None and (image.height, image.width) != size:
        raise UserError(f"{path}: is {image.height}×{image.width} pixels, the model takes {size[0]}×{size[1]}")
    return _to_pixels(image, str(path), channels, side, size, convert=True)
