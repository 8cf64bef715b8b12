"""The tests begin with silent loggers, also where a module's fixture has made a run."""

import logging

import pytest

from common.logs import configure_logger


@pytest.fixture(scope="module", autouse=True)
def _a_run_of_the_module() -> None:
    configure_logger(logging.getLogger("fednc"))


def test_what_a_module_left_speaking_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("fednc").info("a line of a run")
    assert capsys.readouterr().out == ""
