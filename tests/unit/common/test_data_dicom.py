"""DICOM files and images of 16 bits, as images of 8: windows, rescaling, inversion, colours, and what is refused."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

from common.data.decoding import open_image
from common.data.encoded import FileImages

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


def shown(data: bytes) -> np.ndarray:
    return np.asarray(open_image(data, "x.dcm"))


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


def test_without_a_window_the_darkest_is_black_and_the_brightest_white() -> None:
    low, high = int(DEEP.min()), int(DEEP.max())
    expected = [[round(255 * (int(x) - low) / (high - low)) for x in row] for row in DEEP]
    assert shown(dicom(DEEP)).tolist() == expected
    assert not shown(dicom(np.full((4, 4), 700, np.uint16))).any()


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
        (dicom(DEEP, WindowCenter=3, WindowWidth=0), "its window is LINEAR with width 0"),
        (dicom(DEEP, Rows=60000, Columns=60000), "x.dcm: has 3600000000 pixels, more than"),
    ],
)
def test_what_cannot_be_read_is_one_line(data: bytes, message: str, error_of: ErrorOf) -> None:
    assert message in error_of(lambda: open_image(data, "x.dcm"))


def test_without_pydicom_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    data = dicom(DEEP)
    assert error_of(lambda: open_image(data, "x")) == "x: a DICOM file needs pydicom: pip install 'fednc[medical]'"


@pytest.mark.parametrize("form", ["TIFF", "PNG"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_images_are_stretched_where_that_is_asked_for(form: str, dtype: type, tmp_path: Path) -> None:
    if form == "PNG" and dtype is not np.uint16:
        pytest.skip("PNG has no such pixels")
    path = tmp_path / f"x.{form.lower()}"
    Image.fromarray(DEEP.astype(dtype)).save(path)
    low, high = int(DEEP.min()), int(DEEP.max())
    expected = [[round(255 * (int(x) - low) / (high - low)) for x in row] for row in DEEP]
    assert np.asarray(open_image(path.read_bytes(), "x", deep=True)).tolist() == expected
    source = FileImages([path], np.zeros(1, np.int64), 6, 1, depth="percentile")
    assert np.array_equal(source.batch(np.arange(1))[0, 0].numpy(), np.array(expected, np.uint8)[:, 0:6])


def test_tiff_of_several_pages_or_without_numbers(error_of: ErrorOf) -> None:
    pages, broken = io.BytesIO(), io.BytesIO()
    image = Image.fromarray(DEEP)
    image.save(pages, "TIFF", save_all=True, append_images=[image, image])
    assert "x: has 3 pages" in error_of(lambda: open_image(pages.getvalue(), "x", deep=True))
    assert open_image(pages.getvalue(), "x").size == (7, 6)
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(broken, "TIFF")
    assert "pixels that are no numbers" in error_of(lambda: open_image(broken.getvalue(), "x", deep=True))
