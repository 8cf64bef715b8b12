"""From a file's bytes to an image of 8 bits a channel: what Pillow reads, and DICOM."""

import io

import numpy as np
from PIL import Image

from common.data import dicom
from common.errors import UserError

GREY_MODES = ("1", "L", "LA")


def open_image(data: bytes, what: str, deep: bool = False) -> Image.Image:
    """Decode one image.

    Args:
        data: the file's bytes.
        what: names it in errors.
        deep: more than 8 bits a channel become 8, from the image's darkest to its brightest pixel; a file of several
            pages is an error. Otherwise the image is returned as it is, its first page.

    Raises:
        UserError: not an image that can be decoded.
    """
    if dicom.is_dicom(data):
        return dicom.read(data, what)
    try:
        image = Image.open(io.BytesIO(data))
        pages = getattr(image, "n_frames", 1) if deep and image.format == "TIFF" else 1
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError for some broken PNG files.
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
