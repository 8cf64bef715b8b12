"""DICOM files as 8-bit images, by pydicom, and GDCM for JPEG Lossless and JPEG-LS (`fednc[medical]`): one frame.

Grey values are what the viewer of a radiologist shows: rescaled (slope and intercept, or the modality's table), seen
through the file's first window (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3), MONOCHROME1 inverted so that more is brighter.
A file without a window is stretched from its darkest to its brightest pixel.
"""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from common.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset as DicomDataset

Floats = npt.NDArray[np.float64]

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")


def is_dicom(data: bytes) -> bool:
    """Return whether a file starts as DICOM files do: 128 bytes of any content, and DICM."""
    return data[128:132] == b"DICM"


def read(data: bytes, what: str) -> Image.Image:
    """Decode a DICOM file to an image of mode L or RGB.

    Args:
        data: the file's bytes.
        what: names it in errors.

    Raises:
        UserError: pydicom is missing, the file is damaged, without pixels, of several frames or of unknown colours.
    """
    try:
        import pydicom
    except ImportError:
        raise UserError(f"{what}: a DICOM file needs pydicom: pip install 'fednc[medical]'") from None
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        frames = int(dataset.get("NumberOfFrames") or 1)
        size = int(dataset.Rows) * int(dataset.Columns)
        colours = str(dataset.PhotometricInterpretation)
        if frames == 1 and size <= (Image.MAX_IMAGE_PIXELS or size):
            return Image.fromarray(_pixels(dataset, colours))
    except Exception as error:  # pydicom and its decoders raise nearly anything for a damaged file
        reason = " ".join(str(error).split())
        raise UserError(f"{what}: not a readable DICOM image ({reason}); replace or remove it") from None
    if frames > 1:
        raise UserError(f"{what}: has {frames} frames; save each frame that matters as a file")
    raise UserError(f"{what}: has {size} pixels, more than {Image.MAX_IMAGE_PIXELS}; save it smaller")


def _pixels(dataset: "DicomDataset", colours: str) -> npt.NDArray[np.uint8]:
    """Return uint8 [H, W] or [H, W, 3]."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    if not get_decoder(syntax).is_available:
        raise ValueError(f"{syntax.name} needs a decoder: pip install 'fednc[medical]', or save it uncompressed")
    stored = pixel_array(dataset)
    if colours in ("MONOCHROME1", "MONOCHROME2"):
        values = np.asarray(apply_modality_lut(stored, dataset), np.float64)
        shown = _window(dataset, values)
        return to_bytes(1 - shown if colours == "MONOCHROME1" else shown)
    if colours not in _COLOURS:
        raise ValueError(f"its colours are {colours}, expected MONOCHROME1, MONOCHROME2, {', '.join(_COLOURS)}")
    bits = int(dataset.BitsStored)
    if colours == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
        bits = stored.dtype.itemsize * 8
    return to_bytes(np.asarray(stored, np.float64) / (2**bits - 1))


def _window(dataset: "DicomDataset", values: Floats) -> Floats:
    """Return values as 0 (black) to 1 (white) in the file's first window, possibly beyond; stretched without one."""
    centre, width = (_first(dataset.get(key)) for key in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return stretch(values)
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if function == "SIGMOID" and width > 0:
        return np.asarray(1 / (1 + np.exp(-4 * (values - centre) / width)))
    if function == "LINEAR_EXACT" and width > 0:
        return (values - centre) / width + 0.5
    if function != "LINEAR" or width < 1:
        raise ValueError(f"its window is {function} with width {width:g}")
    if width == 1:  # a threshold
        return (values > centre - 0.5).astype(np.float64)
    return (values - (centre - 0.5)) / (width - 1) + 0.5


def _first(value: Any) -> float | None:
    """Return a number, or the first of several, None where the field is absent or empty."""
    if value is None or value == "":
        return None
    values = list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    return float(values[0]) if values else None


def stretch(values: Floats) -> Floats:
    """Map values from the smallest to the largest to 0…1; all of them to 0 where they are equal."""
    low, high = values.min(), values.max()
    return np.asarray((values - low) / ((high - low) or 1))


def to_bytes(shown: Floats) -> npt.NDArray[np.uint8]:
    """Round 0…1 to 0…255, cut at both ends."""
    return np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
