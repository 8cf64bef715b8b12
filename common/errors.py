"""Errors that are a person's to mend: one line, without a traceback."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr
from typing import Any

_LONGEST = 4000  # letters of an error
_SHORT = Repr()  # cuts what is long, wide or deep before it is written out
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 200, 200, 60


class UserError(Exception):
    """Something a user can put right; the message says what was wrong, where, and what to do.

    Command-line entry points print the message alone and exit with a non-zero code. It is one line of letters that
    any terminal can show, whatever a file's name or value brought into it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


def plain(text: str, longest: int = _LONGEST) -> str:
    """Return words that came from elsewhere as one line that can be printed and logged anywhere."""
    letters = (letter if letter.isprintable() else " " for letter in text[:longest])  # no control codes
    shown = "".join(letters).strip()
    return shown if len(text) <= longest else f"{shown}…"


def shown(value: Any) -> str:
    """Return any value as errors show it: as Python writes it, cut short where it is large or deep."""
    try:
        return _SHORT.repr(value)
    except (ValueError, RecursionError):  # a number of too many digits
        return f"a {type(value).__name__} of enormous size"


class WireError(Exception):
    """A message between coordinator and site that does not have the agreed form; the text says what was wrong."""


class RefusalError(UserError):
    """A real site's refusal, whose text the coordinator may read: it names no file, image or patient."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word closest to `word`, or an empty string where none is close."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else ""


def unknown(what: str, word: str, known: Iterable[str]) -> UserError:
    """Build the error for an unknown name: names the word, the nearest known one, and all of them."""
    known = sorted(known)
    hint = f" (did you mean '{near}'?)" if (near := nearest(word, known)) else ""
    return UserError(f"unknown {what} {word!r}{hint}; known: {', '.join(known)}")


def last_line(output: str) -> str:
    """Return what a failed process or site said last: the line below a traceback, without our classes' names."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    line = lines[-1] if lines else ""
    if found := re.fullmatch(r"<class '([\w.]+)'>:<'(.*)'>", line):  # as a SuperNode writes it
        line = f"{found[1]}: {found[2]}"
    return re.sub(r"^common\.errors\.(UserError|RefusalError): ", "", line)
