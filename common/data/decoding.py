"""From a file's bytes to an image of 8 bits a channel: what Pillow reads, and DICOM."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from common.data import dicom
from common.errors import UserError

# not all that Pillow knows: some formats, such as PostScript, would run other programs
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
GREY_MODES = ("1", "L", "LA")


def open_image(data: bytes, what: str, deep: bool = False, side: int | None = None) -> Image.Image:
    """Decode one image.

    Args:
        data: the file's bytes.
        what: names it in errors.
        deep: more than 8 bits a channel become 8, from the image's darkest to its brightest pixel; a file of several
            pages is an error. Otherwise the image is returned as it is, its first page.
        side: the image will be made so small: a JPEG is decoded at ½, ¼ or ⅛ where that leaves both its sides twice as
            long or longer, in a fraction of the time. None: at its own size.

    Raises:
        UserError: not an image that can be decoded.
    """
    if dicom.is_dicom(data):
        return dicom.read(data, what)
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        pages = getattr(image, "n_frames", 1) if deep and image.format == "TIFF" else 1
        if side:
            image.draft(None, (2 * side, 2 * side))
        image.load()
    except UnidentifiedImageError:  # its text shows a buffer
        raise UserError(f"{what}: not a readable image (of no known kind); replace or remove it") from None
    except Exception as error:  # Pillow's decoders raise nearly anything for a damaged file
        raise UserError(f"{what}: not a readable image ({error}); replace or remove it") from None
    if pages > 1:
        raise UserError(f"{what}: has {pages} pages; save one image a file")
    if deep and image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise UserError(f"{what}: has pixels that are no numbers; replace or remove it")
        return Image.fromarray(dicom.to_bytes(dicom.stretch(values)))
    return image


def is_grey(image: Image.Image) -> bool:
    """Return whether an image has one channel, beside transparency."""
    return image.mode in GREY_MODES
