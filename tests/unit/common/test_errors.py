"""The words of errors that a user can mend."""

from common.errors import nearest, unknown


def test_unknown_names_the_word_the_nearest_and_all() -> None:
    message = str(unknown("fruit", "aple", {"pear", "apple"}))
    assert message == "unknown fruit 'aple' (did you mean 'apple'?); known: apple, pear"
    assert str(unknown("fruit", "zzz", ["apple"])) == "unknown fruit 'zzz'; known: apple"
    assert nearest("zzz", ["apple"]) == nearest("apple", []) == ""
