"""Letters in words where an encoding lacks them."""

import io
import sys

import pytest
import typer

from common.transliteration import transliterate_output, words_for


@pytest.mark.parametrize(
    ("letter", "word"),
    [
        *[
            ("θ", "theta"),
            ("ψ", "psi"),
            ("φ", "phi"),
            ("Σ", "Sigma"),
            ("µ", "mu"),
            ("ΐ", "iota"),
            ("ς", "sigma"),
            ("Ώ", "Omega"),
        ],
        *[("±", "+/-"), ("–", "-"), ("×", "x"), ("…", "..."), ("→", "->"), ("½", "1/2"), ("é", "e"), ("\u0302", "")],
        *[("中", "\\u4e2d"), ("\udcff", "\\udcff"), ("̃", "")],
    ],
)
def test_a_letter_becomes_a_word(letter: str, word: str) -> None:
    assert words_for(letter) == word
    assert words_for(letter).isascii()


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "psi +/- e \\udcff\n"), ("latin-1", "psi ± é \\udcff\n"), ("utf-8", "ψ ± é \\udcff\n")],
)
def test_a_stream_shows_what_it_can_and_words_for_the_rest(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    transliterate_output()
    transliterate_output()  # once more changes nothing
    for stream, err in zip(streams, (False, True), strict=True):
        typer.echo("ψ ± é \udcff", err=err)
        stream.flush()
        buffer = stream.buffer
        assert isinstance(buffer, io.BytesIO)
        assert buffer.getvalue().decode(encoding) == shown
