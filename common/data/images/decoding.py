"""From a file's bytes to an image of 8 bits a channel, grey (L) or RGB: what Pillow reads, and DICOM.

The same rules hold wherever an image is opened, in a simulation, at a site and for a finished model:

- An image is turned upright as its EXIF Orientation says.
- What is transparent shows white, as on a page; half transparent pixels are mixed with white.
- Of an animation, the first frame is used. A TIFF of several pages is refused.
- More than 8 bits of grey become 8 by `depth`: `percentile`, the image's 0.1 and 99.9 % percentiles become 0 and 255,
  so that no single hot pixel flattens the rest; `stored`, the range of the stored type does. 8 bits stay as they are;
  colour of 16 bits a channel has `stored`.
"""

import io
import math
import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from common.data.images import dicom
from common.data.images.file_kinds import DICOM, HEAD, OTHER, PILLOW, UNREAD, file_kind
from common.data.images.levels import MOST_PIXELS, Depth, check_pixels, grey_levels, spread, to_bytes
from common.errors import UserError

# `check_pixels` refuses what is too large, by a rule of its own, before anything is unpacked
Image.MAX_IMAGE_PIXELS = MOST_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_SLIDES = ("Aperio", "Hamamatsu", "Ventana", "Leica")  # how their TIFF files describe themselves
_REDUCED = 1 | 4  # TIFF's NewSubfileType: a smaller version of another page, or its mask
_DESCRIPTION, _SUBFILE, _PHOTOMETRIC, _BITS, _FORMAT = 270, 254, 262, 258, 339  # tags of TIFF


def open_image(data: bytes, what: str, depth: Depth = "percentile", side: int | None = None) -> Image.Image:
    """Decode one image.

    Args:
        data: the file's bytes.
        what: names it in errors.
        depth: how more than 8 bits become 8.
        side: the image will be made so small: a JPEG is decoded at ½, ¼ or ⅛ where that leaves both its sides twice as
            long or longer, in a fraction of the time. None: at its own size.

    Returns:
        An image of mode L or RGB.

    Raises:
        UserError: not an image that can be decoded, with what to do.
    """
    kind = file_kind(data[:HEAD])
    if kind == DICOM:
        return dicom.read(data, what, depth)
    if advice := UNREAD.get(kind) or OTHER.get(kind):
        raise UserError(f"{what}: {kind} is not read here; {advice}")
    if not data:
        raise UserError(f"{what}: not a readable image (the file is empty); replace or remove it")
    try:
        image = Image.open(io.BytesIO(data), formats=PILLOW)
        check_pixels(image.width, image.height, len(data), what)
        if image.format == "TIFF":
            _check_pages(image, what)
        if side:
            image.draft(None, (2 * side, 2 * side))
        image.load()
        return _eight_bits(ImageOps.exif_transpose(image), image, what, depth)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(
            f"{what}: has more than {2 * MOST_PIXELS} pixels; save it smaller, or cut it into tiles"
        ) from None
    except UnidentifiedImageError:  # its text shows a buffer
        raise UserError(f"{what}: not a readable image (of no known kind); replace or remove it") from None
    except Exception as error:  # Pillow's decoders raise nearly anything for a damaged file
        raise UserError(f"{what}: not a readable image ({error}); replace or remove it") from None


def is_grey(image: Image.Image) -> bool:
    """Return whether an image has one channel."""
    return image.mode == "L"


def _check_pages(image: Any, what: str) -> None:
    """Refuse a TIFF of several pages, except for smaller versions and masks of the first one, and whole slides."""
    if str(image.tag_v2.get(_DESCRIPTION, "")).startswith(_SLIDES):
        raise UserError(f"{what}: is a whole-slide image (SVS or the like); cut it into tiles, an image each")
    pages = 1
    for number in range(1, image.n_frames):
        image.seek(number)
        pages += not image.tag_v2.get(_SUBFILE, 0) & _REDUCED
    if image.tell():
        image.seek(0)
    if pages > 1:
        raise UserError(f"{what}: has {pages} pages; save one image a file")


def _eight_bits(image: Image.Image, opened: Image.Image, what: str, depth: Depth) -> Image.Image:
    """Return an upright image as L or RGB; `opened` knows how its file stores it."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_deep(image, opened, what, depth))
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "LAB", "RGB"))
        assert converted is not None  # None where the image itself is changed
        return converted
    mode: Literal["L", "RGB"] = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    return image.convert(mode)


def _deep(image: Image.Image, opened: Any, what: str, depth: Depth) -> npt.NDArray[np.uint8]:
    """Return the pixels of a grey image of more than 8 bits as uint8 [H, W]."""
    pixels = np.asarray(image)
    if not np.isfinite(pixels).all():
        raise UserError(f"{what}: has pixels that are no numbers; replace or remove it")
    values, counts, places = grey_levels(pixels)
    low, high = 0.0, 65535.0  # as Pillow returns PNG, PPM and JPEG 2000
    if opened.format == "TIFF":
        low, high = _tiff_range(opened.tag_v2)
    if depth == "stored" and math.isnan(high):
        raise UserError(f"{what}: has floating-point pixels, which have no stored range; set depth: percentile")
    transparent = image.info.get("transparency")
    clear = values == transparent if isinstance(transparent, int) else np.zeros(values.shape, np.bool_)
    shown = spread(values.astype(np.float64), np.where(clear, 0, counts), depth, low, high)
    if opened.format == "TIFF" and opened.tag_v2.get(_PHOTOMETRIC) == 0:
        shown = 1 - np.clip(shown, 0, 1)  # white is zero: Pillow turns 8 bits around, but not more
    shown[clear] = 1
    return np.asarray(to_bytes(shown)[places])


def _tiff_range(tags: Any) -> tuple[float, float]:
    """Return the smallest and the largest number that a TIFF's pixels can be; nan for floating point."""
    bits, kind = int(tags.get(_BITS, (16,))[0]), int(tags.get(_FORMAT, (1,))[0])
    if kind == 3:
        return math.nan, math.nan
    return (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if kind == 2 else (0.0, 2.0**bits - 1)
