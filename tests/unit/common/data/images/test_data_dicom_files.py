"""pydicom's own files: shown as pydicom shows them, or refused by the name of what they are."""

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest

from common.data.images.decoding import open_image

ErrorOf = Callable[[Callable[[], object]], str]


def bundled(name: str) -> Path:
    return Path(pydicom.data.__file__).parent / "test_files" / name


def shown(data: bytes) -> np.ndarray:
    return np.asarray(open_image(data, "x.dcm"))


def robust_ends(values: np.ndarray) -> tuple[float, float]:
    """Return the values of ranks 0.1 % and 99.9 %, inwards."""
    ordered = sorted(float(x) for x in values.ravel())
    last = len(ordered) - 1
    return ordered[math.ceil(0.001 * last)], ordered[math.floor(0.999 * last)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reportsi.dcm", "is a structured report (SR); it holds no picture: leave it out"),
        ("rtplan.dcm", "is a radiotherapy plan (RTPLAN); it holds no picture"),
        ("rtstruct.dcm", "is a radiotherapy structure set (RTSTRUCT)"),
        ("rtdose_1frame.dcm", "is a radiotherapy dose (RTDOSE)"),
        ("dicomdirtests/DICOMDIR", "is a DICOMDIR, the catalogue of a disk; list the images that it names"),
        ("waveform_ecg.dcm", "is a waveform (ECG)"),
        ("liver_1frame.dcm", "is a segmentation (SEG); it is a mask"),
        ("examples_ybr_color.dcm", "has 30 frames; save each frame that matters as a file"),
        ("MR_truncated.dcm", "not a readable DICOM image"),
        ("ExplVR_LitEndNoMeta.dcm", "is a radiotherapy plan (RTPLAN)"),
        ("dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000000", "it has no pixels, and is CTImageStorage"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(name: str, message: str, error_of: ErrorOf) -> None:
    assert message in error_of(lambda: open_image(bundled(name).read_bytes(), "x"))


def pydicoms(name: str) -> np.ndarray:
    """Return pydicom's own rendering of a grey file as 0 to 255, its percentiles where it has no window."""
    dataset = pydicom.dcmread(bundled(name))
    stored = dataset.pixel_array
    values = pydicom.pixels.apply_modality_lut(stored, dataset).astype(float)
    if dataset.get("WindowCenter") not in (None, ""):
        wide = pydicom.pixels.apply_voi_lut(np.append(values, [-1e9, 1e9]), dataset)
        expected = (wide[:-2].reshape(values.shape) - wide[-2]) / (wide[-1] - wide[-2])
    elif dataset.BitsStored <= 8:
        expected = values / (2**dataset.BitsStored - 1)
    else:
        counted = np.ones(values.shape, bool)
        if "PixelPaddingValue" in dataset:
            counted = stored != dataset.PixelPaddingValue
        low, high = robust_ends(values[counted])
        expected = np.where(counted, np.clip((values - low) / (high - low), 0, 1), 0)
    return 255 * (1 - expected if dataset.PhotometricInterpretation == "MONOCHROME1" else expected)


@pytest.mark.parametrize(
    "name",
    [
        *("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"),
        *("MR_small_padded.dcm", "image_dfl.dcm", "examples_overlay.dcm", "dicomdirtests/77654033/CR1/6154"),
        *("dicomdirtests/77654033/CT2/17106", "dicomdirtests/98892001/CT2N/6293", "dicomdirtests/98892003/MR1/15820"),
        *("693_J2KI.dcm", "JPEG2000.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"),
    ],
)
def test_grey_files_are_shown_as_pydicom_shows_them(name: str) -> None:
    dataset = pydicom.dcmread(bundled(name))
    if not pydicom.pixels.get_decoder(dataset.file_meta.TransferSyntaxUID).is_available:
        pytest.skip("needs GDCM: pip install 'fednc[medical]'")
    assert np.abs(shown(bundled(name).read_bytes()) - pydicoms(name)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    "name", ["SC_rgb_rle.dcm", "SC_rgb_small_odd.dcm", "ExplVR_BigEnd.dcm", "SC_rgb_rle_16bit.dcm"]
)
def test_colour_files_are_pydicoms(name: str) -> None:
    dataset = pydicom.dcmread(bundled(name))
    expected = dataset.pixel_array / (2.0**dataset.BitsStored - 1) * 255
    assert np.abs(shown(bundled(name).read_bytes()) - expected).max() <= 0.5


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
def test_a_file_without_preamble_is_read(name: str) -> None:
    whole = bundled(name).read_bytes()
    dataset = pydicom.dcmread(io.BytesIO(whole))
    bare, implicit = io.BytesIO(), dataset.original_encoding[0]
    little = dataset.original_encoding[1]
    content = pydicom.Dataset({element.tag: element for element in dataset if element.tag.group > 2})
    pydicom.dcmwrite(bare, content, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    assert bare.getvalue()[128:132] != b"DICM"
    assert np.array_equal(shown(bare.getvalue()), shown(whole))
