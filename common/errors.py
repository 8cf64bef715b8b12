"""Errors that are a person's to mend: one line, without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something a user can put right; the message says what was wrong, where, and what to do.

    Command-line entry points print the message alone and exit with a non-zero code.
    """


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
    """Return what a failed process or site said last: the line below a traceback, without our class's name."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1].removeprefix("common.errors.UserError: ") if lines else ""
