"""What tests wait with."""

import pytest
from waiting import wait_until


def test_it_returns_what_the_condition_gives_and_says_what_did_not_come() -> None:
    answers = iter([None, "", "there"])
    assert wait_until(lambda: next(answers), 60, "it comes") == "there"
    with pytest.raises(AssertionError, match=r"not within 0 s: it comes"):
        wait_until(lambda: False, 0, "it comes")
    with pytest.raises(AssertionError, match=r"not within 0 s: the log's end"):
        wait_until(lambda: False, 0, lambda: "the log's end")
