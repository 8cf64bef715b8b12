"""The table of methods: each row fits together."""

from dataclasses import FrozenInstanceError

import pytest

from common.methods import HEAD_TITLES, METHODS, Method


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_rows_of_the_table_are_consistent(method: Method) -> None:
    assert METHODS[method.name] is method
    parts = {"backbone", *method.parts}
    assert parts <= {"backbone", "aux_head", "personal_head", "personal_backbone"}
    assert {*method.shared} <= parts and {*method.personal} <= parts
    homeless = parts - {*method.shared} - {*method.personal}
    assert homeless <= {"aux_head"}  # only a head that stands still, the same everywhere, has no home
    with pytest.raises(FrozenInstanceError):
        method.name = "other"  # type: ignore[misc]
    assert "backbone" in method.shared
    assert not {*method.shared} & {*method.personal}
    assert not [part for part in method.shared if part.startswith("personal")]  # what is personal never travels
    assert {part for part in parts if part.startswith("personal")} == {*method.personal}
    assert method.generic_head in {None, *method.parts}
    assert method.reported_head is None or method.reported_head in HEAD_TITLES
    assert method.frame or not method.realigns
    assert "https://" in method.paper
