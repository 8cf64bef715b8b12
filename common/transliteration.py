"""Transliterates letters that the output's encoding lacks: theta for θ, +/- for ±."""

import codecs
import io
import sys
import unicodedata

_WORDS = {
    **{"±": "+/-", "×": "x", "·": "*", "−": "-", "–": "-", "—": "-", "…": "...", "→": "->", "←": "<-"},
    **{
        "≥": ">=",
        "≤": "<=",
        "≠": "!=",
        "∞": "inf",
        "√": "sqrt",
        "‖": "||",
        "⁄": "/",
        "°": " deg",
        "²": "^2",
        "³": "^3",
    },
    **{"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "«": '"', "»": '"', "⟨": "<", "⟩": ">", "ß": "ss"},
}
_ERRORS, _ASCII = "fednc-words", "fednc-ascii"


def words_for(letter: str) -> str:
    """Return ASCII for one letter: a word, the letter without its accent, or its number as Python writes it."""
    if letter in _WORDS:
        return _WORDS[letter]
    name = unicodedata.name(letter, "").split()
    if name[:1] == ["GREEK"] and "LETTER" in name:
        words = name[name.index("LETTER") + 1 :]
        word = words[: words.index("WITH")][-1].lower() if "WITH" in words else words[-1].lower()
        return word.capitalize() if "CAPITAL" in name else word
    if unicodedata.combining(letter):
        return ""
    parts = unicodedata.normalize("NFKD", letter)
    if parts != letter:
        return "".join(part if part.isascii() else words_for(part) for part in parts)
    return letter.encode("ascii", "backslashreplace").decode("ascii")


def transliterate_output() -> None:
    """Let standard output and error stand for what their encoding lacks in words, instead of failing or hiding it."""
    codecs.register_error(_ERRORS, _replace)
    codecs.register(_find_codec)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            plain = codecs.lookup(stream.encoding).name == "ascii"
            # click takes a stream that says ASCII for a mistake, and writes UTF-8 to it
            stream.reconfigure(encoding=_ASCII if plain else stream.encoding, errors=_ERRORS)


def _find_codec(name: str) -> codecs.CodecInfo | None:
    ascii_ = codecs.lookup("ascii")
    if name.replace("_", "-") != _ASCII:
        return None
    return codecs.CodecInfo(
        name=_ASCII,
        encode=ascii_.encode,
        decode=ascii_.decode,
        incrementalencoder=ascii_.incrementalencoder,
        incrementaldecoder=ascii_.incrementaldecoder,
        streamreader=ascii_.streamreader,
        streamwriter=ascii_.streamwriter,
    )


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(words_for, error.object[error.start : error.end])), error.end
