"""Image sources: resident, files, bytes; fitting, moments, errors."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.images.encoded import ByteImages, FileImages
from common.data.images.source import array_images, fit, moments
from common.errors import UserError

RNG = np.random.default_rng(0)
LABELS = np.arange(6)


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def write(folder: Path, images: list[np.ndarray]) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.mark.parametrize("shape", [(6, 5, 7), (6, 5, 7, 1), (6, 5, 7, 3)])
def test_arrays_keep_their_pixels(shape: tuple[int, ...]) -> None:
    x = pixels(*shape)
    source = array_images(x, LABELS)
    assert (len(source), source.size) == (6, (5, 7))
    assert source.channels == (3 if shape[-1] == 3 else 1)
    batch = source.batch(np.array([4, 1, 1]))
    assert batch.dtype == torch.uint8
    expected = x.reshape(6, 5, 7, -1).transpose(0, 3, 1, 2)[[4, 1, 1]]
    assert np.array_equal(batch.numpy(), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_are_fitted(channels: int) -> None:
    x = pixels(6, 10, 20, channels)
    source = array_images(x, LABELS, image_size=8)
    assert source.size == (8, 8)
    squeezed = x[3, :, :, 0] if channels == 1 else x[3]
    expected = np.asarray(fit(Image.fromarray(squeezed), 8)).reshape(8, 8, channels).transpose(2, 0, 1)
    assert np.array_equal(source.batch(np.array([3]))[0].numpy(), expected)


@pytest.mark.parametrize("size", [(100, 40), (40, 100), (33, 33), (3, 500), (501, 7)])
def test_fit_keeps_the_short_side_and_cuts_the_centre(size: tuple[int, int]) -> None:
    assert fit(Image.new("RGB", size), 32).size == (32, 32)
    marked = Image.new("L", (300, 100))
    marked.paste(255, (100, 0, 200, 100))  # exactly the square in the centre
    assert np.asarray(fit(marked, 50))[:, 3:-3].min() > 250


def test_files_are_decoded_when_asked(tmp_path: Path) -> None:
    images = [pixels(5, 7, 3) for _ in range(6)]
    paths = write(tmp_path, images)
    source = FileImages(paths, LABELS)
    source.keep()
    assert (source.channels, source.size, len(source)) == (3, (5, 7), 6)
    first = source.batch(np.array([5, 0, 5]))
    assert np.array_equal(first.numpy(), np.stack([images[i].transpose(2, 0, 1) for i in (5, 0, 5)]))
    paths[0].unlink()
    assert torch.equal(source.batch(np.array([0]))[0], first[1])  # kept
    paths[2].unlink()
    with pytest.raises(UserError, match=r"2\.png: not a readable image"):
        source.batch(np.array([2]))


def test_files_too_many_to_keep(tmp_path: Path) -> None:
    images = [pixels(4, 4) for _ in range(6)]
    paths = write(tmp_path, images)
    source = FileImages(paths, LABELS)
    assert np.array_equal(source.batch(np.array([1]))[0, 0].numpy(), images[1])
    paths[1].unlink()
    with pytest.raises(UserError, match=r"1\.png"):
        source.batch(np.array([1]))


def test_files_of_other_sizes_and_modes(tmp_path: Path) -> None:
    paths = write(tmp_path, [pixels(6, 9), pixels(12, 8), pixels(6, 9, 3), pixels(6, 9, 4)])
    labels = np.arange(4)
    grey = FileImages(paths, labels)
    assert grey.channels == 1
    with pytest.raises(UserError, match=r"1\.png: is 12×8 pixels, .* 6×9; set image-size"):
        grey.batch(np.array([1]))
    with pytest.raises(UserError, match=r"2\.png: is a colour image"):
        grey.batch(np.array([2]))
    fitted = FileImages(paths, labels, image_size=4, channels=3)
    assert fitted.batch(np.arange(4)).shape == (4, 3, 4, 4)


def test_sixteen_bits_are_made_eight(tmp_path: Path) -> None:
    deep = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000
    paths = write(tmp_path, [pixels(4, 4), deep])
    found = FileImages(paths, np.arange(2)).batch(np.array([1]))[0, 0].numpy()
    inner = np.clip((deep.astype(float) - 4000) / (14 * 4000 - 4000), 0, 1)  # from the second to the last but one
    assert np.array_equal(found, np.rint(255 * inner))
    stored = FileImages(paths, np.arange(2), depth="stored").batch(np.array([1]))[0, 0].numpy()
    assert np.array_equal(stored, np.rint(deep / 257))


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_broken_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.png: not a readable image"):
        FileImages([path], np.zeros(1, np.int64))


def test_bytes_are_decoded_once() -> None:
    images = [pixels(6, 4, 3) for _ in range(5)]
    files = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")  # lossless, to compare
        files.append(stream.getvalue())
    data = np.frombuffer(b"".join(files), np.uint8)
    offsets = np.cumsum([0, *map(len, files)])
    rows = np.array([4, 0, 2])

    def of(data: np.ndarray, image_size: int | None = None) -> ByteImages:
        return ByteImages(data, offsets, rows, np.array([1, 0, 1]), image_size, "a.npz: jpeg", Path("a.npz"))

    source, failures = of(data).in_memory()
    assert failures == []
    expected = np.stack([images[i].transpose(2, 0, 1) for i in rows])
    assert np.array_equal(source.batch(np.arange(3)).numpy(), expected)
    assert source.labels.tolist() == [1, 0, 1]
    assert of(data, 3).size == (3, 3)
    broken = data.copy()
    broken[offsets[2] : offsets[3]] = 0
    ((row, reason),) = of(broken).in_memory()[1]
    assert row == 2 and "a.npz: jpeg[2]: not a readable image" in reason
    with pytest.raises(UserError, match=r"a\.npz: jpeg\[2\]: not a readable image"):
        of(broken).batch(np.arange(3))


def test_moments_are_numpys() -> None:
    x = pixels(700, 5, 7, 3)
    x[..., 2] = 51
    source = array_images(x, np.zeros(700, np.int64))
    mean, std = moments(source, 10_000)
    assert np.allclose(mean, x.mean(axis=(0, 1, 2)) / 255, atol=1e-4)
    assert np.allclose(std[:2], (x / 255).std(axis=(0, 1, 2))[:2], atol=1e-4)
    assert (mean[2], std[2]) == (0.2, 1.0)  # a constant channel must not divide by zero
    assert moments(source, 50) == moments(source, 50)
