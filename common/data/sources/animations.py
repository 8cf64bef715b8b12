"""Images of several frames, of which the first one is used: found without decoding them, for a note about them."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from common.data.images.file_kinds import HEAD, file_kind
from common.data.sources.discovery import shortened

_NEVER = frozenset({".bmp", ".dcm", ".dicom", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".ppm", ".tif", ".tiff"})


def animation_notes(paths: Iterable[Path], root: Path) -> tuple[str, ...]:
    """Return a line that names animated images, by their paths below `root`; () where there is none."""
    found = [path for path in paths if _is_animated(path)]
    if not found:
        return ()
    names = [path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name for path in found]
    what = "animated image: its first frame is" if len(found) == 1 else "animated images: the first frames are"
    return (f"{len(found)} {what} used ({shortened(names)})",)


def _is_animated(path: Path) -> bool:
    if path.suffix.lower() in _NEVER:
        return False
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
        kind = file_kind(head)
        if kind == "PNG":
            return b"acTL" in head.partition(b"IDAT")[0]
        if kind == "WEBP":
            return head[12:16] == b"VP8X" and bool(head[20] & 2)
        if kind == "GIF":
            with Image.open(path, formats=["GIF"]) as image:
                return int(getattr(image, "n_frames", 1)) > 1
    except Exception:  # named when it is decoded
        return False
    return False
