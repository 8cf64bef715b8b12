"""The words of errors that a user can mend."""

from common.errors import MistakesError, WireError, last_line, nearest, one_line, unknown
from common.files import DamagedError


def test_unknown_names_the_word_the_nearest_and_all() -> None:
    message = str(unknown("fruit", "aple", {"pear", "apple"}))
    assert message == "unknown fruit 'aple' (did you mean 'apple'?); known: apple, pear"
    assert str(unknown("fruit", "zzz", ["apple"])) == "unknown fruit 'zzz'; known: apple"
    assert nearest("zzz", ["apple"]) == nearest("apple", []) == ""


def test_a_supernodes_way_of_telling_is_undone() -> None:
    assert last_line("<class 'common.errors.RefusalError'>:<'site 'a' refuses'>") == "site 'a' refuses"
    assert last_line("<class 'torch.OutOfMemoryError'>:<'CUDA out'>") == "torch.OutOfMemoryError: CUDA out"
    assert last_line("Traceback\n  x\ncommon.errors.UserError: no\n") == "no"
    for error in (DamagedError("damaged"), MistakesError([("", "a"), ("", "b")]), WireError("no reply")):
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        assert last_line(f"<class '{name}'>:<'{error}'>") == last_line(f"{name}: {error}") == str(error)


def test_words_from_elsewhere_are_one_printable_line() -> None:
    assert one_line("a\nb\x1b[0m ") == "a b [0m"
    assert one_line("\x00\x00") == one_line("") == ""
    assert one_line("abc", 2) == "ab…"
