"""Helpers of the fault tests."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from common.errors import UserError


def mistake(call: Callable[[], Any], *words: str) -> str | None:
    """Return the `UserError` that a call ends with, one printable line that holds these words; None without one."""
    try:
        call()
    except UserError as error:
        error_text = str(error)
        assert error_text.isprintable() and 10 < len(error_text) <= 4001
        assert all(word in error_text for word in words), error_text
        return error_text
    return None


def must_fail(call: Callable[[], Any], *words: str) -> str:
    """Return the `UserError` that a call must end with."""
    error_text = mistake(call, *words)
    assert error_text is not None, "no mistake was found"
    return error_text


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Return a way in which a file's bytes are not what was written."""
    kind = draw(st.sampled_from(["cut", "flip", "flip", "flips", "zeros", "random", "doubled", "nothing"]))
    share, seed = draw(st.floats(0, 1, exclude_max=True)), draw(st.randoms(use_true_random=False))
    noise = draw(st.binary(min_size=1, max_size=64))

    def change(content: bytes) -> bytes:
        place = int(share * len(content))
        if kind == "cut":
            return content[:place]
        if kind == "zeros":
            return content[:place] + b"\0" * len(content[place:])
        if kind == "random":
            return content[:place] + noise + content[place + len(noise) :]
        if kind == "doubled":
            return content + content[: place + 1]
        if kind == "nothing":
            return b""
        changed = bytearray(content)
        for _ in range(1 if kind == "flip" else 20):
            changed[place] ^= 1 << seed.randrange(8)
            place = seed.randrange(len(content))
        return bytes(changed)

    return change


def picture(kind: str, mode: str = "L") -> bytes:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (9, 11, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


PICTURES = {
    **{kind: picture(kind) for kind in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM")},
    **{f"{kind} in colour": picture(kind, "RGB") for kind in ("PNG", "JPEG", "TIFF", "WEBP", "JPEG2000")},
    "PNG of a palette": picture("PNG", "P"),
    "TIFF of numbers": picture("TIFF", "F"),
}
