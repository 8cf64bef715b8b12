"""DICOM files and images of 16 bits, as images of 8: windows, rescaling, inversion, colours, and what is refused."""

import io
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

from common.data.images.decoding import open_image
from common.data.images.encoded import FileImages
from common.data.images.levels import Depth

ErrorOf = Callable[[Callable[[], object]], str]
DEEP = np.random.default_rng(0).integers(0, 4096, (6, 7), dtype=np.uint16)


def dicom(pixels: np.ndarray, compress: bool = False, **fields: Any) -> bytes:
    """Return a DICOM file of these pixels, [H, W] or [H, W, 3], with some fields set."""
    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.Rows, data.Columns = pixels.shape[-3:-1] if pixels.shape[-1] == 3 else pixels.shape[-2:]
    data.SamplesPerPixel = 3 if pixels.shape[-1] == 3 else 1
    data.PhotometricInterpretation = "RGB" if data.SamplesPerPixel == 3 else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    data.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(data, name, value)
    if compress:
        data.compress(RLELossless)
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def shown(data: bytes, depth: Depth = "percentile") -> np.ndarray:
    return np.asarray(open_image(data, "x.dcm", depth))


def linear(x: float, centre: float, width: float) -> int:
    """Return PS3.3 C.11.2.1.2.1 for output values 0 to 255, as the standard writes it."""
    if x <= centre - 0.5 - (width - 1) / 2:
        return 0
    if x > centre - 0.5 + (width - 1) / 2:
        return 255
    return round(((x - (centre - 0.5)) / (width - 1) + 0.5) * 255)


@pytest.mark.parametrize(("centre", "width"), [(2000, 1000), (0, 500), (4000, 1), (2048.5, 4096), (1000, 2)])
def test_a_window_is_the_standards(centre: float, width: float) -> None:
    expected = [[linear(float(x), centre, width) for x in row] for row in DEEP]
    found = shown(dicom(DEEP, WindowCenter=centre, WindowWidth=width))
    assert found.dtype == np.uint8 and found.tolist() == expected
    assert shown(dicom(DEEP, WindowCenter=[centre, 7], WindowWidth=[width, 9])).tolist() == expected  # the first
    assert shown(dicom(DEEP, compress=True, WindowCenter=centre, WindowWidth=width)).tolist() == expected


def test_values_are_rescaled_before_the_window() -> None:
    hounsfield = np.array([[0, 24, 984, 1064, 1144, 3000]], np.int16)
    fields = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 161}
    assert shown(dicom(hounsfield, **fields)).tolist() == [
        [linear(float(x) - 1024, 40, 161) for x in hounsfield[0]],
    ]
    fields |= {"RescaleSlope": 2, "RescaleIntercept": 5}
    assert shown(dicom(hounsfield, **fields)).tolist() == [[linear(2 * float(x) + 5, 40, 161) for x in hounsfield[0]]]


def test_other_functions_of_the_window() -> None:
    x = DEEP.astype(float)
    sigmoid = dicom(DEEP, WindowCenter=2000, WindowWidth=900, VOILUTFunction="SIGMOID")
    assert np.abs(shown(sigmoid) - 255 / (1 + np.exp(-4 * (x - 2000) / 900))).max() <= 0.5 + 1e-9
    exact = dicom(DEEP, WindowCenter=2000, WindowWidth=900, VOILUTFunction="LINEAR_EXACT")
    assert np.abs(shown(exact) - np.clip((x - 2000) / 900 + 0.5, 0, 1) * 255).max() <= 0.5 + 1e-9


def stretched(values: np.ndarray, low: float, high: float) -> list[list[int]]:
    return [[round(255 * min(max((float(x) - low) / (high - low), 0), 1)) for x in row] for row in values]


def robust_ends(values: np.ndarray) -> tuple[float, float]:
    """Return the values of ranks 0.1 % and 99.9 %, inwards."""
    ordered = sorted(float(x) for x in values.ravel())
    last = len(ordered) - 1
    return ordered[math.ceil(0.001 * last)], ordered[math.floor(0.999 * last)]


def test_without_a_window_percentiles_or_the_stored_range_decide() -> None:
    assert shown(dicom(DEEP)).tolist() == stretched(DEEP, *robust_ends(DEEP))
    assert shown(dicom(DEEP, BitsStored=12, HighBit=11), "stored").tolist() == stretched(DEEP, 0, 4095)
    signed = DEEP.astype(np.int16) - 2000
    assert shown(dicom(signed, RescaleSlope=2, RescaleIntercept=7)).tolist() == stretched(signed, *robust_ends(signed))
    found = shown(dicom(signed, RescaleSlope=-2, RescaleIntercept=7), "stored").tolist()
    assert found == stretched(7 - 2.0 * signed, 7 - 2 * 32767, 7 + 2 * 32768)
    assert not shown(dicom(np.full((4, 4), 700, np.uint16))).any()
    eight = np.arange(40, 64, dtype=np.uint8).reshape(4, 6)
    assert np.array_equal(shown(dicom(eight)), eight)  # never stretched
    hot = np.random.default_rng(1).integers(100, 200, (50, 50), dtype=np.uint16)
    hot[7, 7] = 65535
    assert shown(dicom(hot)).tolist() == stretched(hot, *robust_ends(hot)) and np.median(shown(dicom(hot))) > 100


def test_padding_does_not_count_and_is_black() -> None:
    inner = DEEP.astype(np.int16) - 1000
    padded = np.pad(inner, 3, constant_values=-2000)
    expected = np.pad(np.array(stretched(inner, *robust_ends(inner))), 3)
    assert np.array_equal(shown(dicom(padded, PixelPaddingValue=-2000)), expected)
    padded[0, :] = -1500
    fields = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1400}
    assert np.array_equal(shown(dicom(padded, **fields)), expected)
    padded[padded <= -1400] = 4000  # above the image, and turned around
    fields = {"PixelPaddingValue": 4000, "PhotometricInterpretation": "MONOCHROME1"}
    low, high = robust_ends(inner)
    assert np.array_equal(shown(dicom(padded, **fields)), np.pad(np.array(stretched(-inner, -high, -low)), 3))
    assert not shown(dicom(np.full((4, 4), 9, np.uint16), PixelPaddingValue=9)).any()


def table(first: int, entries: list[int], bits: int) -> pydicom.Sequence:
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", np.array(entries, "<u2").tobytes())
    return pydicom.Sequence([item])


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2000, "WindowWidth": 400}])
def test_a_voi_table_goes_before_a_window_as_in_pydicom(bits: int, window: dict[str, int]) -> None:
    entries = [int((2**bits - 1) * (i / 2999) ** 2) for i in range(3000)]
    data = dicom(DEEP, VOILUTSequence=table(500, entries, bits), **window)
    dataset = pydicom.dcmread(io.BytesIO(data))
    by_hand = [[entries[min(max(int(x) - 500, 0), 2999)] for x in row] for row in DEEP]
    if bits > 8:  # pydicom counts the entries of a table of 8 bits in 8 bits
        assert pydicom.pixels.apply_voi_lut(dataset.pixel_array, dataset).tolist() == by_hand
    assert shown(data).tolist() == [[round(255 * x / (2**bits - 1)) for x in row] for row in by_hand]
    inverse = dicom(DEEP, VOILUTSequence=table(500, entries, bits), PresentationLUTShape="INVERSE", **window)
    assert np.abs(shown(data).astype(int) + shown(inverse) - 255).max() <= 1


def test_a_modalitys_table_goes_before_the_window() -> None:
    entries = [min(4095, (i * i) // 4096) for i in range(4096)]
    fields = {"ModalityLUTSequence": table(0, entries, 12), "WindowCenter": 900, "WindowWidth": 700}
    found = shown(dicom(DEEP, **fields)).tolist()
    assert found == [[linear(float(entries[int(x)]), 900, 700) for x in row] for row in DEEP]


def test_presentation() -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 901}
    plain = shown(dicom(DEEP, **window))
    dx = dicom(DEEP, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", **window)
    for inverted in (dicom(DEEP, PresentationLUTShape="INVERSE", **window), dx):  # PS3.3 C.8.11.1.1.1: one inversion
        assert np.abs(plain.astype(int) + shown(inverted) - 255).max() <= 1
    assert np.array_equal(shown(dicom(DEEP, PresentationLUTShape="IDENTITY", **window)), plain)
    squared = table(0, [int(65535 * (i / 4095) ** 2) for i in range(4096)], 16)
    found = shown(dicom(DEEP, PresentationLUTSequence=squared, **window))
    assert np.abs(found - 255 * (plain / 255.0) ** 2).max() < 2


def test_an_enhanced_object_of_one_frame_keeps_its_window_elsewhere() -> None:
    window, rescaling, groups = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    window.WindowCenter, window.WindowWidth = 40, 161
    rescaling.RescaleSlope, rescaling.RescaleIntercept = 1, -1024
    groups.FrameVOILUTSequence = pydicom.Sequence([window])
    groups.PixelValueTransformationSequence = pydicom.Sequence([rescaling])
    data = dicom(DEEP, PerFrameFunctionalGroupsSequence=pydicom.Sequence([groups]), NumberOfFrames=1)
    assert shown(data).tolist() == [[linear(float(x) - 1024, 40, 161) for x in row] for row in DEEP]


def test_monochrome1_is_inverted() -> None:
    for fields in ({}, {"WindowCenter": 2000, "WindowWidth": 901}):
        upright, inverted = (
            shown(dicom(DEEP, PhotometricInterpretation=f"MONOCHROME{kind}", **fields)).astype(int) for kind in (2, 1)
        )
        assert np.abs(upright + inverted - 255).max() <= 1  # both are rounded


def test_colours() -> None:
    colour = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    assert np.array_equal(shown(dicom(colour)), colour)
    deep = dicom(colour.astype(np.uint16) * 257)
    assert np.array_equal(shown(deep), colour)
    grey = np.full((4, 4, 3), [90, 128, 128], np.uint8)  # YCbCr without colour
    assert np.abs(shown(dicom(grey, PhotometricInterpretation="YBR_FULL")).astype(int) - 90).max() <= 1


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless"])
def test_lossless_jpeg_is_the_uncompressed_image(
    syntax: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    gdcm = pytest.importorskip("gdcm", reason="needs GDCM: pip install 'fednc[medical]'")
    plain, packed = dicom(DEEP, WindowCenter=2000, WindowWidth=1000), tmp_path / "packed.dcm"
    packed.write_bytes(plain)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(packed))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(packed))
    assert writer.Write() and pydicom.dcmread(packed).file_meta.TransferSyntaxUID.is_compressed
    assert np.array_equal(shown(packed.read_bytes()), shown(plain))
    monkeypatch.setattr("pydicom.pixels.common.CoderBase.is_available", property(lambda self: False))
    message = error_of(lambda: open_image(packed.read_bytes(), "x.dcm"))
    assert "x.dcm: not a readable DICOM image (JPEG" in message and "needs a decoder: pip install" in message


def test_files_of_a_site_may_be_dicom(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(dicom(DEEP))  # whatever its name
    (tmp_path / "b.dcm").write_bytes(dicom(np.zeros((9, 4, 3), np.uint8)))
    source = FileImages([tmp_path / "a", tmp_path / "b.dcm"], np.zeros(2, np.int64), 4, 3)
    assert source.batch(np.arange(2)).shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dicom(np.zeros((3, 4, 5), np.uint8), NumberOfFrames=3), "x.dcm: has 3 frames; save each frame"),
        (dicom(DEEP)[:-20], "x.dcm: not a readable DICOM image"),
        (dicom(DEEP)[:200], "x.dcm: not a readable DICOM image"),
        (dicom(DEEP, PhotometricInterpretation="CMYK"), "x.dcm: not a readable DICOM image (its colours are CMYK"),
        (dicom(DEEP, WindowCenter=3, WindowWidth=0), "Window Width must be greater than or equal to 1 for a 'LINEAR'"),
        (dicom(DEEP, PresentationLUTShape="LIN OD"), "Presentation LUT Shape LIN OD is not supported"),
        (dicom(DEEP)[: dicom(DEEP).index(b"\xe0\x7f\x10\0")], "x.dcm: not a readable DICOM image (it has no pixels"),
        (dicom(DEEP, Rows=60000, Columns=60000), "x.dcm: has 3600000000 pixels, more than"),
    ],
)
def test_what_cannot_be_read_is_one_line(data: bytes, message: str, error_of: ErrorOf) -> None:
    assert message in error_of(lambda: open_image(data, "x.dcm"))


def test_without_pydicom_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    data = dicom(DEEP)
    assert error_of(lambda: open_image(data, "x")) == "x: a DICOM file needs pydicom: pip install 'fednc[medical]'"


def test_a_pdf_in_dicom_is_refused(error_of: ErrorOf) -> None:
    data = dicom(DEEP, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")
    assert error_of(lambda: open_image(data, "x")) == "x: is a PDF in DICOM; save its pictures as PNG or JPEG"
