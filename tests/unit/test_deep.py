"""The table of deep tests."""

import pytest
from deep import DEEP, NAMED


def test_each_name_in_the_table_is_a_tests(request: pytest.FixtureRequest) -> None:
    """Of the files that are tested now: one that was renamed would be of `make test`."""
    if any("::" in word for word in request.config.args):
        pytest.skip("some tests of a file alone")
    assert [f"{path}: {part}" for path in NAMED for part in DEEP[path] if part not in NAMED[path]] == []
