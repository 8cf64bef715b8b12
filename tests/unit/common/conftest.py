"""Fixtures about mistakes and files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import UserError


@pytest.fixture(scope="session")
def error_of() -> Callable[[Callable[[], object]], str]:
    """Return a function: the message of the `UserError` that a call raises, checked to be one line."""

    def message_of(call: Callable[[], object]) -> str:
        with pytest.raises(UserError) as caught:
            call()
        message = str(caught.value)
        assert message
        assert message.splitlines() == [message]
        return message

    return message_of


@pytest.fixture
def yaml_file(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes its text to `given/exp.yaml` and returns the path."""

    def write(text: str) -> Path:
        path = tmp_path / "given" / "exp.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write
