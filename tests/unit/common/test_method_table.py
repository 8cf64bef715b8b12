"""The table of methods: each row fits together."""

import pytest

from common.methods import HEAD_TITLES, METHODS, Method


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_rows_of_the_table_are_consistent(method: Method) -> None:
    assert METHODS[method.name] is method
    assert {*method.heads} <= {"aux_head", "personal_head"}
    assert {*method.shared} <= {"backbone", *method.heads}
    assert {*method.personal} <= {"backbone", *method.heads}
    assert not {*method.shared} & {*method.personal}
    assert {*method.shared, *method.personal} == {"backbone", *method.heads}  # all state has one home
    assert method.generic_head in {*method.heads, *(["frame"] if method.frame else [])}
    assert method.reported_head.startswith(method.generic_head)
    assert method.reported_head in HEAD_TITLES
    assert "https://" in method.paper
    with pytest.raises(AttributeError):
        method.name = "other"  # type: ignore[misc]
