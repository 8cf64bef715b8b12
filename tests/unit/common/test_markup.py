"""Whatever a site or a class is called, Markdown and a spreadsheet show the name and nothing else."""

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from common.errors import one_line
from common.markup import csv_text, escape_markdown, fenced

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
EVIL = (
    "a|b", "`code`", "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://e.vil/p.png)", "a\n\n# b",
    "*a* **b**", "_a_ __b__", "# a", "&lt;&amp;", "\\", "\\|", "~~a~~", "<http://e.vil>", "a\r| b", "| --- |", "$x$",
    "[a]: http://e.vil", "snake_case_name", "a\u2028b", "\x1b[31m", "\ud800", "https://e.vil", "*", "**", "- a", "1. a",
)  # fmt: skip
# letters that are markup somewhere, often; any others too
NAMES = st.text(st.sampled_from("\\`*_{}[]<>()#+-.!|~&:@$^=\"' \n\tab1") | st.characters(), min_size=1, max_size=30)


def words(text: str) -> list[str]:
    return one_line(text, len(text)).split()


def shown(token: Token) -> list[str]:
    """Return the words of a line that holds text alone."""
    children = token.children or []
    assert [child.type for child in children] in ([], ["text"]), [(c.type, c.content) for c in children]
    return "".join(child.content for child in children).split()


@given(NAMES)
@example("a|b")
def test_markdown_shows_any_name_as_it_is(name: str) -> None:
    word = escape_markdown(name)
    text = f"# {word}: title\n\n- Few images of: {word}, {word}.\n\n| {word} | b |\n| --- | --- |\n| {word} | 1 |\n"
    tokens = PARSER.parse(text)
    assert [t.type for t in tokens if t.type.endswith("_open") and t.level == 0] == [
        "heading_open", "bullet_list_open", "table_open",
    ]  # fmt: skip
    inline = [t for t in tokens if t.type == "inline"]
    assert len(inline) == 2 + 4
    assert shown(inline[0]) == words(f"{one_line(name, len(name))}: title")
    assert [shown(inline[place]) for place in (2, 4)] == [words(name)] * 2


@pytest.mark.parametrize("name", EVIL)
def test_names_that_would_be_markup_are_letters(name: str) -> None:
    test_markdown_shows_any_name_as_it_is.hypothesis.inner_test(name)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["site-03", "padded_etf", "sparsity=0.6", "ψ *", "1.5 ± 0.2", "Klinik Süd (2)", "–"])
def test_plain_names_stay_readable_as_text(name: str) -> None:
    assert escape_markdown(name) == name == csv_text(name)


@given(st.text(st.sampled_from("`~ a\n"), max_size=40))
def test_nothing_ends_a_block_of_code(text: str) -> None:
    tokens = PARSER.parse(fenced(text, "yaml") + "\n\nafter")
    assert [t.type for t in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert tokens[0].info == "yaml" and tokens[0].content == text.removesuffix("\n") + "\n"


@given(st.text(max_size=20) | NAMES | st.tuples(st.sampled_from("=+-@\t\r\n'"), NAMES).map("".join))
def test_a_csv_holds_no_formula_and_gives_every_text_back(text: str) -> None:
    cell = csv_text(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow([cell, "end"])
    (back, end), *rest = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert end == "end" and not rest
    assert back.removeprefix("'") == text.encode(errors="backslashreplace").decode().replace("\r", "\\r")
