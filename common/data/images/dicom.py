"""DICOM files as 8-bit images, by pydicom, and GDCM for JPEG Lossless and JPEG-LS (`fednc[medical]`): one frame.

Grey values are what the viewer of a radiologist shows. They are rescaled (slope and intercept, or the modality's
table), go through the file's first VOI table, or else its first window (DICOM PS3.3, C.11.2), and through its
presentation table. MONOCHROME1 and Presentation LUT Shape INVERSE both say, together or alone, that low values are
bright: they are turned around, so that more is brighter. Without a VOI table and a window, more than 8 bits become 8
by `depth`; padding, which is no part of the image, does not count then, and is black.
"""

import io
import warnings
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from common.data.images.levels import Counts, Depth, Floats, check_pixels, grey_levels, spread, to_bytes
from common.errors import UserError

# what pydicom tolerates in a file, it says by lines of its code; what it does not is an error that names the file
warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")

if TYPE_CHECKING:
    from pydicom import Dataset as DicomDataset

Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
_LEAVE = "it holds no picture: leave it out"
# part of the name of a kind of DICOM object that is no picture → its name for people, and what to do
_OBJECTS = {
    "MediaStorageDirectory": ("a DICOMDIR, the catalogue of a disk", "list the images that it names instead"),
    "SRStorage": ("a structured report (SR)", _LEAVE),
    "KeyObjectSelection": ("a selection of key images (KO)", _LEAVE),
    "PresentationState": ("a presentation state (PR)", _LEAVE),
    "RTDose": ("a radiotherapy dose (RTDOSE)", "it is no picture: leave it out"),
    "RTStructureSet": ("a radiotherapy structure set (RTSTRUCT)", _LEAVE),
    "RTPlan": ("a radiotherapy plan (RTPLAN)", _LEAVE),
    "RTIonPlan": ("a radiotherapy plan (RTPLAN)", _LEAVE),
    "ECG": ("a waveform (ECG)", _LEAVE),
    "Waveform": ("a waveform", _LEAVE),
    "EncapsulatedPDF": ("a PDF in DICOM", "save its pictures as PNG or JPEG"),
    "Encapsulated": ("a document in DICOM", _LEAVE),
    "Segmentation": ("a segmentation (SEG)", "it is a mask, not a picture: leave it out"),
    "Spectroscopy": ("a spectroscopy", _LEAVE),
    "RawData": ("raw data", _LEAVE),
    "Video": ("a video", "save the frames that matter as images"),
}


def read(data: bytes, what: str, depth: Depth = "percentile") -> Image.Image:
    """Decode a DICOM file, with or without its preamble, to an image of mode L or RGB.

    Args:
        data: the file's bytes.
        what: names it in errors.
        depth: what becomes black and white where the file does not say; see `levels.spread`.

    Raises:
        UserError: pydicom is missing, the file is damaged, no picture, of several frames or of unknown colours.
    """
    try:
        import pydicom
        from pydicom.uid import UID
    except ImportError:
        raise UserError(f"{what}: a DICOM file needs pydicom: pip install 'fednc[medical]'") from None
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        _check_object(dataset, what)
        frames = int(dataset.get("NumberOfFrames") or 1)
        if frames > 1:
            slide = "WholeSlide" in UID(str(dataset.get("SOPClassUID", ""))).keyword
            advice = "cut the slide into tiles, an image each" if slide else "save each frame that matters as a file"
            raise UserError(f"{what}: has {frames} frames; {advice}")
        check_pixels(int(dataset.Columns), int(dataset.Rows), len(data), what)
        return Image.fromarray(_pixels(dataset, depth))
    except UserError:
        raise
    except Exception as error:  # pydicom and its decoders raise nearly anything for a damaged file
        reason = " ".join(str(error).split())
        raise UserError(f"{what}: not a readable DICOM image ({reason}); replace or remove it") from None


def _check_object(dataset: "DicomDataset", what: str) -> None:
    """Refuse objects of DICOM that are no pictures."""
    from pydicom.uid import UID

    meta = getattr(dataset, "file_meta", {})
    kind = UID(str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")).keyword
    for word, (name, advice) in _OBJECTS.items():
        if word in kind:
            raise UserError(f"{what}: is {name}; {advice}")
    if "PixelData" not in dataset:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise UserError(f"{what}: has floating-point pixels, which are not read here; save it with integer ones")
        if dataset.get("EncapsulatedDocument") or dataset.get("WaveformSequence"):
            raise UserError(f"{what}: is a document or a waveform in DICOM; {_LEAVE}")
        raise ValueError(f"it has no pixels{f', and is {kind}' if kind else ''}")


def _pixels(dataset: "DicomDataset", depth: Depth) -> npt.NDArray[np.uint8]:
    """Return uint8 [H, W] or [H, W, 3]."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    colours = str(dataset.PhotometricInterpretation)
    if colours not in (*_GREY, *_COLOURS):
        raise ValueError(f"its colours are {colours}, expected {', '.join((*_GREY, *_COLOURS))}")
    syntax = _transfer_syntax(dataset)
    if not get_decoder(syntax).is_available:
        raise ValueError(f"{syntax.name} needs a decoder: pip install 'fednc[medical]', or save it uncompressed")
    stored = pixel_array(dataset)
    if colours in _GREY:
        values, counts, places = grey_levels(stored)
        shown = _shown(_with_frames_own(dataset), values, counts, depth)
        if not np.isfinite(shown).all():
            raise ValueError("its window makes pixels that are no numbers")
        return np.asarray(to_bytes(shown)[places])
    bits = int(dataset.BitsStored)
    if colours == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
        bits = stored.dtype.itemsize * 8
    return to_bytes(np.asarray(stored, np.float64) / (2**bits - 1))


def _transfer_syntax(dataset: "DicomDataset") -> Any:
    """Return how the pixels are stored; of a file without a preamble, as pydicom found it written."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset.file_meta.TransferSyntaxUID


def _with_frames_own(dataset: "DicomDataset") -> "DicomDataset":
    """Return a data set with the rescaling and the window that an enhanced object keeps for its one frame."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in list(dataset.get(groups) or ())[:1]:
            for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for item in list(group.get(name) or ())[:1]:
                    dataset.update({element.tag: element for element in item})
    return dataset


def _shown(dataset: "DicomDataset", stored: Values, counts: Counts, depth: Depth) -> Floats:
    """Return stored grey values [n] as 0 (black) to 1 (white).

    Args:
        dataset: its tables.
        stored: [n].
        counts: [n], how many pixels have each.
        depth: where there is no window.
    """
    padding = _padding(dataset, stored)
    values = _modality(dataset, stored)
    shown = _table_or_window(dataset, values)
    if shown is None:
        low, high = _limits(dataset)
        plain = int(dataset.BitsStored) <= 8 and np.array_equal(values, stored)
        shown = spread(values, np.where(padding, 0, counts), "stored" if plain else depth, low, high)
    else:
        padding[:] = False  # the window shows what there is
    shown = _presented(dataset, np.clip(shown, 0, 1))
    shown[padding] = 0
    return shown


def _limits(dataset: "DicomDataset") -> tuple[float, float]:
    """Return the smallest and the largest value that rescaled pixels can have."""
    bits = int(dataset.BitsStored)
    ends = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if dataset.PixelRepresentation else [0, 2**bits - 1]
    if tables := dataset.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** int(tables[0].LUTDescriptor[2]) - 1
    low, high = sorted(_modality(dataset, np.array(ends, np.int64)).tolist())
    return low, high


def _modality(dataset: "DicomDataset", stored: Values) -> Floats:
    from pydicom.pixels.processing import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        dataset = _widened(dataset, "ModalityLUTSequence")
    values = np.asarray(apply_modality_lut(stored.astype(np.int64), dataset), np.float64)
    if not np.isfinite(values).all():
        raise ValueError("its rescaling makes pixels that are no numbers")
    return values


def _table_or_window(dataset: "DicomDataset", values: Floats) -> Floats | None:
    """Return values [n] as 0 to 1 by the first VOI table, else by the first window; None where there is neither."""
    from pydicom.pixels.processing import apply_voi, apply_windowing

    tables = dataset.get("VOILUTSequence")
    if tables and None not in (tables[0].get("LUTDescriptor"), tables[0].get("LUTData")):
        number, first, bits = (int(value) for value in tables[0].LUTDescriptor)
        inside = np.clip(np.rint(values), first, first + (number or 2**16) - 1).astype(np.int64)
        table = apply_voi(inside, _widened(dataset, "VOILUTSequence"))
        return np.asarray(table, np.float64) / (2.0**bits - 1)
    if any(dataset.get(name) in (None, "", []) for name in ("WindowCenter", "WindowWidth")):
        return None
    # what is far beyond the window shows its ends
    with np.errstate(over="ignore"):
        windowed = apply_windowing(np.append(values, [-np.inf, np.inf]), dataset)
    low, high = windowed[-2:]
    if low == high:
        raise ValueError("its rescaling leaves one grey only")
    return np.asarray((windowed[:-2] - low) / (high - low))


def _widened(dataset: "DicomDataset", name: str) -> "DicomDataset":
    """Return a copy whose first table has entries of 16 bits: pydicom counts entries in the type of their values."""
    from pydicom import Dataset as DicomDataset
    from pydicom import Sequence

    item = deepcopy(dataset[name].value[0])
    item.LUTDescriptor = [*list(item.LUTDescriptor)[:2], 16]
    wide = DicomDataset()
    wide.file_meta = dataset.file_meta
    setattr(wide, name, Sequence([item]))
    return wide


def _padding(dataset: "DicomDataset", stored: Values) -> Flags:
    """Return which values only fill the rectangle: those between Pixel Padding Value and its Range Limit."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit is None else limit)))
    return np.asarray((stored >= low) & (stored <= high))


def _presented(dataset: "DicomDataset", shown: Floats) -> Floats:
    """Return 0 to 1 as the presentation table says, or turned around where low values are bright."""
    from pydicom.pixels.processing import apply_presentation_lut

    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    if tables := dataset.get("PresentationLUTSequence"):
        if inverted:
            raise ValueError("a Presentation LUT Sequence of MONOCHROME1 is not supported")
        bits = int(tables[0].LUTDescriptor[2])
        # pydicom spreads what it gets over the table: both ends belong to it
        found = apply_presentation_lut(np.append(shown, [0, 1]), dataset)[:-2]
        return np.asarray(found, np.float64) / (2.0**bits - 1)
    shape = str(dataset.get("PresentationLUTShape") or "IDENTITY").strip().upper()
    if shape not in ("IDENTITY", "INVERSE"):
        raise ValueError(f"Presentation LUT Shape {shape} is not supported")
    return 1 - shown if inverted or shape == "INVERSE" else shown
