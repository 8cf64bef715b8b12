"""What a file is, by its first bytes: an image that is read here, one that is not, or something else."""

import re
import zlib
from typing import Literal

HEAD = 4096  # bytes from which a file's kind is recognised

# name of Pillow's reader → what its files start with
_STARTS = {
    "GIF": rb"GIF8[79]a",
    "JPEG": rb"\xff\xd8\xff",
    "JPEG2000": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "WEBP": rb"RIFF.{4}WEBP",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",  # and the length of its header
    # and, as text may start so: width, height
    "PPM": rb"P[1-6](?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+\s",
}
# not all that Pillow knows: some formats, such as PostScript, would run other programs
PILLOW = tuple(sorted(_STARTS))
DICOM = "DICOM"

# images that are not read here → what to do
UNREAD = {
    "NIfTI": "save each slice that matters as PNG or DICOM",
    "HEIC": "save it as JPEG or PNG (a telephone can be set to take JPEG)",
    "AVIF": "save it as JPEG or PNG",
    "JPEG XL": "save it as JPEG or PNG",
    "NRRD": "save each slice that matters as PNG or DICOM",
    "Photoshop": "save it as PNG or TIFF",
}
# → likewise; a folder of images may hold these for other reasons
OTHER = {
    "PDF": "save its pictures as PNG or JPEG",
    "ZIP": "unpack it",
    "gzip": "unpack it",
    "7z": "unpack it",
    "RAR": "unpack it",
    "tar": "unpack it",
    "video": "save the frames that matter as PNG or JPEG",
    "NumPy": "save its images as PNG, or all of them as one .npz (dataset: npz)",
    "HDF5": "save its images as PNG",
    "PostScript": "save it as PNG",
    "SVG": "save it as PNG",
}
_OTHER_STARTS = {
    "HEIC": rb".{4}ftyp(?:hei[cfmsx]|hev[cmsx]|mif1|msf1)",
    "AVIF": rb".{4}ftypavi[fs]",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "NRRD": rb"NRRD0",
    "NIfTI": rb"\x5c\x01\0\0.{340}n[i+]1\0|\0\0\x01\x5c.{340}n[i+]1\0|(?:\x1c\x02\0\0|\0\0\x02\x1c)n[i+]2\0",
    "Photoshop": rb"8BPS",
    "PDF": rb".{0,1000}?%PDF-",
    "ZIP": rb"PK\x03\x04|PK\x05\x06",
    "gzip": rb"\x1f\x8b",
    "7z": rb"7z\xbc\xaf\x27\x1c",
    "RAR": rb"Rar!\x1a\x07",
    "tar": rb".{257}ustar",
    "video": rb".{4}ftyp|RIFF.{4}AVI |\x1a\x45\xdf\xa3",
    "NumPy": rb"\x93NUMPY",
    "HDF5": rb"\x89HDF\r\n",
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "SVG": rb"(?=\s*<[?!s]).{0,3000}?<svg\b",
}
_PATTERNS = {kind: re.compile(start, re.DOTALL) for kind, start in {**_STARTS, **_OTHER_STARTS}.items()}
# value representations of DICOM PS3.5, 6.2, as a group's first elements have them
_VR = re.compile(rb"AE|AS|AT|CS|DA|DS|DT|IS|LO|LT|OB|OW|PN|SH|SL|SQ|SS|ST|TM|UI|UL|UN|US|UT")
_LONG_VR = (b"OB", b"OW", b"SQ", b"UN", b"UT")


def file_kind(head: bytes) -> str:
    """Return a file's kind, by its first `HEAD` bytes.

    Returns:
        DICOM, one of `PILLOW`, which are read here; one of `UNREAD` or `OTHER`; '' for anything else.
    """
    if head[128:132] == b"DICM" or _is_bare_dicom(head):
        return DICOM
    for kind, pattern in _PATTERNS.items():
        if pattern.match(head):
            return "NIfTI" if kind == "gzip" and _PATTERNS["NIfTI"].match(_unpacked(head)) else kind
    return ""


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 1024)
    except zlib.error:
        return b""


def _is_bare_dicom(head: bytes) -> bool:
    """Return whether a file starts as DICOM does after its preamble: three elements in the order of their tags."""
    return _has_elements(head, "little") or _has_elements(head, "big")


def _has_elements(head: bytes, order: Literal["little", "big"]) -> bool:
    def number(place: int, size: int) -> int:
        return int.from_bytes(head[place : place + size], order)

    place, last = 0, (0, 0)
    for _ in range(3):
        tag, vr = (number(place, 2), number(place + 2, 2)), head[place + 4 : place + 6]
        if len(head) < place + 12 or tag <= last or tag[0] not in ((2, 8) if last == (0, 0) else range(2, 0x11)):
            return False
        last = tag
        if not _VR.fullmatch(vr):  # implicit
            length, start = number(place + 4, 4), 8
        elif vr in _LONG_VR:
            length, start = number(place + 8, 4), 12
        else:
            length, start = number(place + 6, 2), 8
        if length > 1024:
            return False
        place += start + length
    return True
