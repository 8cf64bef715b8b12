"""From bytes to grey or RGB: orientation, transparency, depth, colours, and what is refused by name."""

import gzip
import io
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from common.data.images.decoding import open_image
from common.data.images.encoded import ByteImages, FileImages
from common.data.images.source import read_image

ErrorOf = Callable[[Callable[[], object]], str]
RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 4096, (6, 7), dtype=np.uint16)
# what a viewer does to stored rows and columns, by EXIF 2.3: the place of row 0 and column 0
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x[:, ::-1].swapaxes(0, 1),
}


def encoded(image: Image.Image, form: str, **more: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **more)
    return stream.getvalue()


def read(data: bytes, **more: Any) -> np.ndarray:
    return np.asarray(open_image(data, "x", **more))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_are_turned_upright_once_wherever_they_are_opened(form: str, orientation: int, tmp_path: Path) -> None:
    stored = np.zeros((16, 24, 3), np.uint8)
    stored[:8, :8] = 250  # one corner, in blocks that JPEG keeps
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(Image.fromarray(stored), form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    expected = UPRIGHT[orientation](stored).astype(int)
    pillows = Image.open(io.BytesIO(data))
    pillows.load()
    assert np.abs(np.asarray(ImageOps.exif_transpose(pillows)).astype(int) - expected).max() < 12
    assert np.abs(read(data) - expected).max() < 12
    path = tmp_path / "x"
    path.write_bytes(data)
    label, upright = np.zeros(1, np.int64), expected.transpose(2, 0, 1)
    from_file = FileImages([path], label).batch(np.arange(1))[0].numpy()
    content = np.frombuffer(data, np.uint8)
    from_bytes = (
        ByteImages(content, np.array([0, len(data)]), np.arange(1), label, None, "x", path).in_memory()[0].pixels[0]
    )
    for found in (from_file, from_bytes, read_image(path, 3, expected.shape[:2])):
        assert np.abs(found.astype(int) - upright).max() < 12


def over_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255.0
    return pixels * share + 255 * (1 - share)


def test_what_is_transparent_shows_white() -> None:
    colour, alpha = RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8), RNG.integers(0, 256, (5, 6), dtype=np.uint8)
    rgba = Image.fromarray(np.dstack([colour, alpha]))
    for form in ("PNG", "TIFF", "WEBP"):
        found = read(encoded(rgba, form, **({"lossless": True, "exact": True} if form == "WEBP" else {})))
        assert np.abs(found - over_white(colour, alpha)).max() <= 1, form
    grey = Image.merge("LA", (Image.fromarray(colour[..., 0]), Image.fromarray(alpha)))
    found = read(encoded(grey, "PNG"))
    assert found.shape == (5, 6) and np.abs(found - over_white(colour[..., :1], alpha)[..., 0]).max() <= 1
    opaque = Image.fromarray(np.dstack([colour, np.full((5, 6), 255, np.uint8)]))
    assert np.array_equal(read(encoded(opaque, "PNG")), colour)


def test_a_transparent_colour_shows_white() -> None:
    places = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = Image.fromarray(places).convert("P")
    for form in ("PNG", "GIF"):
        found = read(encoded(palette, form, transparency=5))
        expected = np.asarray(palette.convert("RGB")).copy()
        expected[places == 5] = 255
        assert np.array_equal(np.broadcast_to(found.reshape(3, 4, -1), expected.shape), expected)
    grey = read(encoded(Image.fromarray(places), "PNG", transparency=5))
    assert grey.tolist() == np.where(places == 5, 255, places).tolist()
    deep = read(encoded(Image.fromarray(places.astype(np.uint16) * 500), "PNG", transparency=2500), depth="stored")
    assert deep.tolist() == np.where(places == 5, 255, np.rint(places * (500 / 257))).tolist()


def test_colours_are_pillows() -> None:
    colour = Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    for mode, form in (
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
        ("CMYK", "JPEG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("1", "TIFF"),
    ):
        data = encoded(colour.convert(mode), form)
        expected = Image.open(io.BytesIO(data)).convert("L" if mode == "1" else "RGB")
        assert np.array_equal(read(data), np.asarray(expected)), (mode, form)
    lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    smooth = Image.fromarray(np.full((4, 4, 3), (200, 120, 40), np.uint8))
    found = read(encoded(ImageCms.applyTransform(smooth, lab), "TIFF"))
    assert np.abs(found.astype(int) - (200, 120, 40)).max() < 6


def naive_percentiles(values: np.ndarray) -> np.ndarray:
    ordered = sorted(float(x) for x in values.ravel())
    last = len(ordered) - 1
    low, high = ordered[math.ceil(0.001 * last)], ordered[math.floor(0.999 * last)]
    return np.array([[round(255 * min(max((float(x) - low) / (high - low), 0), 1)) for x in row] for row in values])


@pytest.mark.parametrize("form", ["TIFF", "PNG", "PPM"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_images_become_eight_bits_by_percentiles(form: str, dtype: type, tmp_path: Path) -> None:
    if form != "TIFF" and dtype is not np.uint16:
        pytest.skip("has no such pixels")
    path = tmp_path / f"x.{form.lower()}"
    Image.fromarray(DEEP.astype(dtype)).save(path, form)
    expected = naive_percentiles(DEEP)
    assert np.array_equal(read(path.read_bytes()), expected)
    source = FileImages([path], np.zeros(1, np.int64), 6, 1)
    assert np.array_equal(source.batch(np.arange(1))[0, 0].numpy(), expected[:, 0:6])
    assert np.array_equal(read_image(path, 1, (6, 7)), expected[None])


def test_one_hot_pixel_does_not_flatten_an_image() -> None:
    smooth = np.tile(np.linspace(1000, 2000, 40).astype(np.uint16), (30, 1))
    before = read(encoded(Image.fromarray(smooth), "PNG"))
    smooth[3, 3] = 65535
    after = read(encoded(Image.fromarray(smooth), "PNG"))
    smooth[3, 3] = before[3, 3]
    others = np.arange(smooth.size).reshape(smooth.shape) != 3 * 40 + 3
    assert np.array_equal(after[others], before[others]) and after[3, 3] == 255
    assert not read(encoded(Image.new("I;16", (5, 5), 900), "PNG")).any()  # all alike: black
    two = np.zeros((50, 50), np.uint16)
    two[4, 4] = 7
    assert read(encoded(Image.fromarray(two), "PNG"))[4, 4] == 255  # all there is to see


def test_the_stored_range(error_of: ErrorOf) -> None:
    for form in ("PNG", "TIFF", "PPM"):
        found = read(encoded(Image.fromarray(DEEP), form), depth="stored")
        assert np.array_equal(found, np.rint(DEEP / 65535 * 255)), form
    wide = np.array([[-(2**31), 0, 2**31 - 1]], np.int32)
    assert read(encoded(Image.fromarray(wide), "TIFF"), depth="stored").tolist() == [[0, 128, 255]]
    real = encoded(Image.fromarray(DEEP.astype(np.float32)), "TIFF")
    assert "floating-point pixels, which have no stored range; set depth: percentile" in error_of(
        lambda: read(real, depth="stored")
    )
    eight = RNG.integers(40, 60, (4, 4), dtype=np.uint8)
    for depth in ("percentile", "stored"):
        assert np.array_equal(read(encoded(Image.fromarray(eight), "PNG"), depth=depth), eight)


def test_white_is_zero_in_a_deep_tiff() -> None:
    upright = read(encoded(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 1})).astype(int)
    inverted = encoded(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 0})
    assert Image.open(io.BytesIO(inverted)).tag_v2[262] == 0
    assert np.abs(read(inverted) + upright - 255).max() <= 1


def test_pages_and_pixels_without_numbers(error_of: ErrorOf) -> None:
    image = Image.fromarray(DEEP)
    pages = encoded(image, "TIFF", save_all=True, append_images=[image, image])
    assert error_of(lambda: read(pages)) == "x: has 3 pages; save one image a file"
    broken = encoded(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF")
    assert "pixels that are no numbers" in error_of(lambda: read(broken))
    slide = encoded(image, "TIFF", description="Aperio Image Library v10")
    assert "is a whole-slide image (SVS or the like); cut it into tiles" in error_of(lambda: read(slide))


def test_a_smaller_version_in_a_tiff_is_no_page() -> None:
    small = image = Image.fromarray(DEEP)
    small = Image.new("L", (3, 3))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    assert read(encoded(image, "TIFF", save_all=True, append_images=[small])).shape == (6, 7)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_read(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(
        frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": 1} if form == "WEBP" else {})
    )
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert (read(data) == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x: not a readable image (the file is empty); replace or remove it"),
        (b"no image", "x: not a readable image (of no known kind); replace or remove it"),
        (
            b"\x5c\x01\0\0" + bytes(340) + b"n+1\0" + bytes(9),
            "x: NIfTI is not read here; save each slice that matters",
        ),
        (gzip.compress(b"\x5c\x01\0\0" + bytes(340) + b"n+1\0", mtime=0), "x: NIfTI is not read here; save each slice"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "x: HEIC is not read here; save it as JPEG or PNG"),
        (b"\0\0\0\x1cftypmif1" + bytes(20), "x: HEIC is not read here"),
        (b"\0\0\0\x1cftypavif" + bytes(20), "x: AVIF is not read here; save it as JPEG or PNG"),
        (b"%PDF-1.4 ...", "x: PDF is not read here; save its pictures as PNG or JPEG"),
        (b"PK\x03\x04 ...", "x: ZIP is not read here; unpack it"),
        (b"\0\0\0\x18ftypmp42" + bytes(20), "x: video is not read here; save the frames that matter"),
    ],
)
def test_other_kinds_of_files_are_refused_with_what_to_do(content: bytes, message: str, error_of: ErrorOf) -> None:
    assert message in error_of(lambda: open_image(content, "x"))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"])
def test_truncated_files_are_refused(form: str, error_of: ErrorOf) -> None:
    data = encoded(Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)), form)
    assert "x: not a readable image (" in error_of(lambda: open_image(data[: len(data) // 2], "x"))


def png_of(width: int, height: int) -> bytes:
    """Return a black PNG of one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(error_of: ErrorOf) -> None:
    message = error_of(lambda: open_image(png_of(16_000, 16_000), "x"))
    assert message.startswith("x: says that it has 256000000 pixels, in a file of")


def test_a_large_image_is_read_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    large = encoded(Image.new("L", (10_000, 10_000)), "PNG")  # more than Pillow's own limit, and empty
    assert open_image(large, "x").size == (10_000, 10_000)
    assert not [warning for warning in recwarn.list if "bomb" in str(warning.message)]


def test_an_image_of_too_many_pixels_is_refused(error_of: ErrorOf) -> None:
    assert "x: has 400000000 pixels, more than 268435456; save it smaller, or cut it into tiles" in error_of(
        lambda: open_image(b"P5 20000 20000 255\n" + bytes(99), "x")
    )
