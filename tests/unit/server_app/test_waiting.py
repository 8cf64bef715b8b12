"""Waiting for real sites."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from common.wire import WireError
from server_app import waiting


class Arriving:
    """A grid to which one more site connects at each look."""

    def __init__(self, most: int) -> None:
        self._most, self._looks = most, 0

    def get_node_ids(self) -> list[int]:
        self._looks += 1
        return list(range(min(self._looks, self._most)))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_POLL_SECONDS", 0.01)


def test_the_run_begins_when_enough_sites_are_there(caplog: pytest.LogCaptureFixture) -> None:
    grid: Any = Arriving(most=5)
    logging.getLogger("fednc").addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, logger="fednc"):
            assert waiting.wait_for_sites(grid, 3, timeout=10) == 3
    finally:
        logging.getLogger("fednc").removeHandler(caplog.handler)
    assert "1 of 3 sites connected; waiting" in caplog.text


def test_too_few_sites_end_the_wait_with_what_to_do() -> None:
    grid: Any = Arriving(most=2)
    with pytest.raises(WireError, match=r"2 of 3 sites connected within 0\.05 s: start the others"):
        waiting.wait_for_sites(grid, 3, timeout=0.05)


def test_the_countdown_is_seen(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    monkeypatch.setattr(waiting, "_POLL_SECONDS", 2.0)
    monkeypatch.setattr(logging.getLogger("fednc"), "propagate", True)
    grid: Any = Arriving(most=2)
    with caplog.at_level(logging.INFO, logger="fednc"), pytest.raises(WireError, match="2 of 3 sites"):
        waiting.wait_for_sites(grid, 3, timeout=100)
    told = list(dict.fromkeys(record.getMessage() for record in caplog.records))
    assert told[0] == "1 of 3 sites connected; waiting 100 s more"
    assert told[1:] == [f"2 of 3 sites connected; waiting {left} s more" for left in (70, 40, 10)]
