"""The table of methods: each row fits together."""

import re
from dataclasses import FrozenInstanceError
from importlib import import_module

import pytest

from common.methods import HEAD_TITLES, METHODS, Method
from common.models.parts import PARTS
from common.wire import EXTRAS


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_rows_of_the_table_are_consistent(method: Method) -> None:
    assert METHODS[method.name] is method
    parts = {"backbone", *method.parts}
    assert parts <= {"backbone", *PARTS, *method.builders} and {*method.builders} <= parts
    optional = {"projection"} if method.frame else set()
    assert {*method.shared} <= parts | optional and {*method.personal} <= parts and {*method.coordinator_parts} <= parts
    assert {*method.extras} <= {*EXTRAS}
    homeless = parts - {*method.shared} - {*method.personal} - {*method.coordinator_parts}
    # only a head that stands still, the same everywhere, or is made anew of the frame, has no home
    assert homeless <= ({"personal_head"} if method.generic_head == "frame" else {"aux_head"})
    with pytest.raises(FrozenInstanceError):
        method.name = "other"  # type: ignore[misc]
    assert "backbone" in method.shared
    assert not {*method.shared} & {*method.personal} and not {*method.coordinator_parts} & {
        *method.shared,
        *method.personal,
    }
    assert not [part for part in method.shared if part.startswith("personal")]  # what is personal never travels
    assert {part for part in parts if part.startswith("personal")} - homeless == {*method.personal} - {"class_state"}
    assert method.generic_head in {None, *method.parts} or (method.frame and method.generic_head == "frame")
    assert method.reported_head is None or method.reported_head in HEAD_TITLES
    assert method.frame or not method.realigns
    assert bool(method.frame) == (method.finetune_rate is not None)  # more harms what a frame has shaped
    assert "https://" in method.paper


@pytest.mark.parametrize("name", METHODS)
def test_each_methods_file_says_what_the_readme_promises(name: str) -> None:
    """The paper with a link, what is shared and what is personal, its loss, the defaults and whose they are."""
    text = import_module(f"client_app.methods.{name}").__doc__ or ""
    assert METHODS[name].paper.split("https://")[1].split(")")[0] in text
    assert "Shared:" in text and "Personal" in text
    assert re.search(r"CE\(|F_k\(|[Ll]oss", text)
    assert re.search(r"^Defaults?\b|\. Defaults?:", text, flags=re.MULTILINE)
