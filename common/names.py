"""What sites and classes may be called, wherever a name comes from: one rule, and which names look alike.

A name is taken in Unicode's composed form (NFC) and without blanks around it. It has letters that show: no control
character, nothing invisible (such as an order of writing turned round), no blank but the plain one. Two names that a
person would take for one cannot both take part: `Nevus` and `nevus`, `Ａ` and `A`, `1` and `1.0`, Cyrillic `а` and
Latin `a`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from common.errors import nearest, short_repr

LONGEST_CLASS, LONGEST_SITE = 128, 64

# Of a site, beside letters and digits: nothing that leads to another folder, or that pages and shells read as theirs.
_SITE = re.compile(r"\w[\w .,'’&()+-]*")
_NUMBER = re.compile(r"([+-]?)0*(\d+?)(?:\.0*)?")
_MARKS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")  # accents, no vowel signs

# What letters look like that are not Latin, or that Unicode does not take apart, after case is folded. Letters that
# only ASCII confuses (1 and l, 0 and O) are not among them: people see that those differ.
_ALIKE = str.maketrans(
    "авекмнорстухіѕјԁԛԝһӏѵԍ" + "αβεζηικνορτυχϲϳ" + "øłđðħıŀɑɡɩ" + "‐‑‒–—−‘’ʼ′",
    "abekmhopctyxisjdqwhlvg" + "abezhikvoptuxcj" + "olddhilagi" + "------''''",
)
_CAPITALS = str.maketrans("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX")  # Greek; small ones look otherwise
_LATIN = re.compile("[A-Za-z]")


def class_name(text: str) -> str:
    """Return a class's name as it is used everywhere.

    Raises:
        ValueError: it cannot be one; the text says why.
    """
    return _checked(text, LONGEST_CLASS)


def site_name(text: str) -> str:
    """Return a site's name as it is used everywhere.

    Raises:
        ValueError: it cannot be one; the text says why.
    """
    name = _checked(text, LONGEST_SITE)
    if not _SITE.fullmatch(name):
        raise ValueError("use letters, digits, blanks and . , ' & ( ) + - _ alone, with a letter or a digit first")
    return name


def _checked(text: str, longest: int) -> str:
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise ValueError("is empty; give it a name")
    if len(name) > longest:
        raise ValueError(f"has {len(name)} letters; use at most {longest}")
    if odd := [letter for letter in name if not letter.isprintable()]:
        what = unicodedata.name(odd[0], f"U+{ord(odd[0]):04X}")
        raise ValueError(f"has a character that does not show ({what}); write it without")
    return name


def skeleton(name: str) -> str:
    """Return what is left of a name when all is taken away that a person may miss: equal for names that look alike.

    Case, width, accents, blanks, how a whole number is written, and the letters of other scripts that look like Latin
    ones do not count.
    """
    plain = unicodedata.normalize("NFKC", name)
    if _LATIN.search(plain):  # a Greek capital in a Latin word stands for what it looks like
        plain = plain.translate(_CAPITALS)
    plain = _MARKS.sub("", unicodedata.normalize("NFKD", plain.casefold()))
    plain = "".join(unicodedata.normalize("NFC", plain).translate(_ALIKE).split())
    if number := _NUMBER.fullmatch(plain):
        return number[1].replace("+", "") + number[2]
    return plain


def lookalikes(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each name that looks like an earlier, different one, with the first of those."""
    first: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if (other := first.setdefault(skeleton(name), name)) != name:
            yield name, other


def lookalike(name: str, known: Iterable[str]) -> str:
    """Return the known name that this one looks like and is not, or an empty string."""
    bare = skeleton(name)
    return next((other for other in known if other != name and skeleton(other) == bare), "")


def closest(name: str, known: Iterable[str]) -> str:
    """Return the known name that was probably meant: one that looks alike, else the nearest; '' where none is close."""
    known = list(known)
    return lookalike(name, known) or nearest(name, known)


def check_names(names: Iterable[str], rule: Callable[[str], str], what: str) -> tuple[str, ...]:
    """Return names as they are used everywhere.

    Args:
        names: as written.
        rule: `class_name` or `site_name`.
        what: they are the names of, for the error.

    Raises:
        ValueError: one breaks the rule, occurs twice, or looks like another.
    """
    found: list[str] = []
    for text in names:
        try:
            found.append(rule(text))
        except ValueError as error:
            raise ValueError(f"{what} {short_repr(text)}: {error}") from None
        if found[-1] in found[:-1]:
            raise ValueError(f"{what} {short_repr(found[-1])} occurs twice")
    for name, other in lookalikes(found):
        raise ValueError(f"{what} {short_repr(name)} and {short_repr(other)} look alike: {rename_hint(name, other)}")
    return tuple(found)


def rename_hint(name: str, other: str) -> str:
    """Return what to do about two names that look alike, and which letters differ where one cannot see it."""
    odd = [letter for letter in f"{name}{other}" if ord(letter) > 127 and letter not in set(name) & set(other)]
    seen = f" ({short_repr(odd[0])} is {unicodedata.name(odd[0], 'unnamed')})" if odd else ""
    return f"did you mean one of them?{seen} write both alike, or give each a name of its own"
