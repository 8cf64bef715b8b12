"""Errors for users: a message without a traceback."""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from reprlib import Repr
from typing import Any, TypeVar

T = TypeVar("T")

_LONGEST = 4000  # letters of an error
_MOST = 30  # mistakes that are written out
_SHORT = Repr()  # cuts what is long, wide or deep before it is written out
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 200, 200, 60


class UserError(Exception):
    """Something a user can put right; the message says what was wrong, where, and what to do.

    Command-line entry points print the message alone and exit with a non-zero code. It is one line of letters that
    any terminal can show, whatever a file's name or value brought into it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class MistakesError(UserError):
    """Several mistakes of one input, all at once; as text still one line.

    Args:
        found: where, and what, of each; each pair counts once, and there is at least one.

    Attributes:
        found: as given, each pair once.
        head: where, and how many; of a single mistake, all there is to say.
        lines: a line each; none of a single mistake.
    """

    def __init__(self, found: Sequence[tuple[str, str]]) -> None:
        self.found = found = list(dict.fromkeys(found))
        places = list(dict.fromkeys(where for where, _ in found if where))
        lines = [": ".join(filter(None, (where if len(places) > 1 else "", words))) for where, words in found]
        lines = lines[:_MOST] + ([f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else [])
        many = len(found) > 1
        summary = ": ".join([*([", ".join(places)] if places else []), f"{len(found)} mistakes" if many else lines[0]])
        self.head, self.lines = one_line(summary), tuple(map(one_line, lines)) if many else ()
        super().__init__(": ".join([summary, "; ".join(lines)]) if many else summary)


def run_all(makers: Iterable[Callable[[], T]]) -> list[T]:
    """Return what each call returns; raise `UserError` with the mistakes of all that end with one."""
    made, found = [], []
    for make in makers:
        try:
            made.append(make())
        except UserError as error:
            found += error.found if isinstance(error, MistakesError) else [("", str(error))]
    if found:
        raise MistakesError(found)
    return made


def print_error(error: Exception) -> None:
    """Write an error to standard error: one line, below it one for each of several mistakes, and its notes."""
    head, lines = (error.head, error.lines) if isinstance(error, MistakesError) else (str(error), ())
    sys.stderr.write("".join([f"error: {head}\n", *(f"  {line}\n" for line in lines)]))
    sys.stderr.write("".join(f"{note}\n" for note in getattr(error, "__notes__", ())))


def one_line(text: str, longest: int = _LONGEST) -> str:
    """Return words that came from elsewhere as one line that can be printed and logged anywhere."""
    letters = (letter if letter.isprintable() else " " for letter in text[:longest])  # no control codes
    words = "".join(letters).strip()
    return words if len(text) <= longest else f"{words}…"


def short_repr(value: Any) -> str:
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


def did_you_mean(near: str) -> str:
    """Return a hint at the nearest known word, or nothing."""
    return f"did you mean '{near}'? " if near else ""


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
    return re.sub(r"^(common|client_app|server_app)(\.\w+)+: ", "", line)
