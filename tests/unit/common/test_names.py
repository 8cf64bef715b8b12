"""One rule for the names of sites and classes, and which of them look alike."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.names import check_names, class_name, closest, lookalikes, site_name, skeleton

ALIKE = [
    ("c0", "C0"),
    ("Nevus", "nevus"),
    ("1", "1.0"),
    ("3", "03"),
    ("0", "0.0"),
    ("Ａ", "A"),
    ("nаevus", "naevus"),  # Cyrillic
    ("Νevus", "nevus"),  # a Greek capital
    ("ΝΕΥΡΟΝ", "νευρον"),
    ("café", "cafe"),
    ("Mass  Edema", "mass edema"),
    ("site–1", "site-1"),
    ("Straße", "STRASSE"),
    ("ﬁbrosis", "fibrosis"),
]
DIFFERENT = [
    ("1", "2"),
    ("10", "1"),
    ("-1", "1"),
    ("1.5", "1"),
    ("5 μm", "5 mm"),
    ("l", "1"),
    ("か", "ka"),
    ("が", "か"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_look_alike_cannot_both_take_part(one: str, other: str) -> None:
    assert list(lookalikes(["x", one, other])) == [(other, one)]
    with pytest.raises(ValueError, match="look alike: did you mean one of them"):
        check_names(["x", one, other], class_name, "class")


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_names_that_differ_visibly_are_two(one: str, other: str) -> None:
    assert check_names([one, other], class_name, "class") == (one, other)


@given(st.text(max_size=20))
def test_a_skeleton_ignores_case_and_composition(name: str) -> None:
    assert skeleton(unicodedata.normalize("NFD", name)) == skeleton(unicodedata.normalize("NFC", name))
    assert skeleton(f" {name}\t") == skeleton(name)


@given(st.text(max_size=140))
def test_a_name_that_is_taken_is_taken_as_it_is_again(text: str) -> None:
    for rule in (class_name, site_name):
        try:
            name = rule(text)
        except ValueError as error:
            assert str(error)
            continue
        assert rule(name) == name and name.isprintable() and name == name.strip() and len(name) <= 128


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        ("x" * 129, "has 129 letters; use at most 128"),
        ("a\nb", "does not show (U+000A)"),
        ("a\u202eb", "does not show (RIGHT-TO-LEFT OVERRIDE)"),
        ("a\u200bb", "does not show (ZERO WIDTH SPACE)"),
        ("a\u00a0b", "does not show (NO-BREAK SPACE)"),
        ("\ud800", "does not show (U+D800)"),
    ],
)
def test_letters_that_do_not_show_are_no_part_of_a_name(name: str, why: str) -> None:
    for rule in (class_name, site_name):
        with pytest.raises(ValueError) as caught:
            rule(name)
        assert why.replace("128", "64" if rule is site_name else "128") in str(caught.value)


def test_a_name_is_composed_and_trimmed() -> None:
    assert class_name(" cafe\u0301 ") == "café" and site_name("St. Mary's (north) ") == "St. Mary's (north)"


@pytest.mark.parametrize(
    "name", ["a/b", "..", ".hidden", "a\\b", "<b>", "a|b", "[x](y)", "a`b`", "-rf", "x" * 65, "a*"]
)
def test_a_site_is_not_called_like_a_path_or_markup(name: str) -> None:
    with pytest.raises(ValueError, match="use "):
        site_name(name)


def test_what_was_meant_is_first_what_looks_alike() -> None:
    assert closest("nevus", ["nexus", "Nevus"]) == "Nevus" and closest("nevu", ["Nevus", "cat"]) == "Nevus"
    assert closest("nevus", ["other"]) == ""
