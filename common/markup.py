"""Words that came from elsewhere, such as names of sites and classes, shown as what they are and never as markup."""

import re

from common.errors import one_line

# Backslashes make any of these a letter (CommonMark 2.4). An underline within a word, a star between spaces and a dot
# anywhere but in an address are letters already: names and tables stay readable as text.
_MARKUP = re.compile(r"[\\`\[\]<>|~&@$:#!{}]|(?<!\s)\*|\*(?!\s)|(?<![^\W_])_|_(?![^\W_])|(?<=www)\.", re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "'")  # how a spreadsheet's formula may begin, and our own mark


def plain_line(words: str) -> str:
    """Return the words, whole, as one line without control characters and surrogates."""
    return words if words.isprintable() else one_line(words, len(words))


def escape_markdown(words: str) -> str:
    """Return text within a line of Markdown or a cell of its tables; line breaks become spaces."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", f" {plain_line(words)} ")[1:-1]


def fenced(text: str, language: str = "") -> str:
    """Return lines as a block of code in Markdown, which nothing in them can end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.removesuffix(chr(10))}\n{fence}"


def csv_text(words: str) -> str:
    """Return text for a CSV that people open in spreadsheets, where = + - @ would begin a formula.

    Such a text gets an apostrophe in front, as one that begins with an apostrophe does: to read it back, take one off.
    """
    whole = words.encode(errors="backslashreplace").decode()  # a file's name may be no text
    whole = whole.replace("\r", "\\r")  # Python's writer would not quote it where lines end with \n
    return f"'{whole}" if whole.startswith(_FORMULA) else whole
