"""Waiting for real sites."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from common.config import Experiment, build
from common.wire import WireError
from server_app.sites import waiting
from server_app.sites.discovery import SiteFacts


class Arriving:
    """A grid to which one more site connects at each look.

    Args:
        most: sites in the end.
        wrong: node → at how many of its first hellos it cannot take part.
    """

    def __init__(self, most: int, wrong: dict[int, int] | None = None) -> None:
        self._most, self._looks = most, 0
        self.wrong = wrong or {}
        self.hellos: list[int] = []
        self.timeouts: list[float] = []
        self.clock: list[float] = []

    def admit(self, _: object, __: Experiment, nodes: list[int], timeout: float, sites: dict[str, SiteFacts]) -> Any:
        reasons = {}
        self.timeouts.append(timeout)
        if self.clock:
            self.clock[0] += timeout  # the wrong ones hang
        for node in nodes:
            self.hellos.append(node)
            if self.hellos.count(node) <= self.wrong.get(node, 0):
                reasons[node] = f"site 'n{node}': wrong class list"
            else:
                sites[f"n{node}"] = SiteFacts(node, 5, 5)
        return reasons

    def get_node_ids(self) -> list[int]:
        self._looks += 1
        return list(range(min(self._looks, self._most)))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


@pytest.fixture(autouse=True)
def lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("fednc"), "propagate", True)
    caplog.set_level(logging.INFO, logger="fednc")
    return caplog


def wait_for_sites(grid: Any, monkeypatch: pytest.MonkeyPatch, timeout: float = 100) -> waiting.Roster:
    monkeypatch.setattr(waiting, "admit", grid.admit)
    return waiting.wait_for_sites(grid, build({"sites": 3, "round-timeout": timeout}))


def test_the_run_begins_when_enough_sites_are_there(
    monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    grid = Arriving(most=5)
    roster = wait_for_sites(grid, monkeypatch)
    assert (list(roster.sites), roster.rejected) == (["n0", "n1", "n2"], {})
    assert lines.messages == ["1 of 3 sites connected; waiting 100 s more"]


def test_too_few_sites_end_the_wait_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WireError, match=r"2 of 3 sites connected within 0\.5 s: start the others, lower sites, or"):
        wait_for_sites(Arriving(most=2), monkeypatch, timeout=0.5)


def test_the_countdown_is_seen(monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture) -> None:
    with pytest.raises(WireError, match="2 of 3 sites"):
        wait_for_sites(Arriving(most=2), monkeypatch)
    assert lines.messages[0] == "1 of 3 sites connected; waiting 100 s more"
    assert lines.messages[1:] == [f"2 of 3 sites connected; waiting {left} s more" for left in (70, 40, 10)]


def test_a_site_that_cannot_take_part_does_not_count_until_it_is_mended(
    monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture, clock: list[float]
) -> None:
    grid = Arriving(most=3, wrong={1: 1})
    roster = wait_for_sites(grid, monkeypatch)
    assert (sorted(roster.sites), roster.rejected) == (["n0", "n1", "n2"], {})
    assert grid.hellos == [0, 1, 2, 1] and 60 <= clock[0] <= 70  # it is asked again, alone, after a minute
    assert "2 of 3 sites can take part; waiting" in lines.text


def test_a_site_that_hangs_is_waited_for_twice_as_long_each_time(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    grid = Arriving(most=3, wrong={1: 3})
    grid.clock = clock
    assert sorted(wait_for_sites(grid, monkeypatch, timeout=10_000).sites) == ["n0", "n1", "n2"]
    assert grid.timeouts == [60, 120, 240, 480] and grid.hellos == [0, 1, 2, 1, 1, 1]
    grid, clock[0] = Arriving(most=3, wrong={1: 9}), 0
    grid.clock = clock
    with pytest.raises(WireError, match="2 of 3 sites can take part"):
        wait_for_sites(grid, monkeypatch, timeout=500)
    assert sum(grid.timeouts) < 500 and clock[0] == pytest.approx(500)  # and never beyond the time there is


def test_a_site_that_goes_is_forgotten_and_asked_again_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    grid = Arriving(most=3, wrong={2: 1})
    ids, looks = grid.get_node_ids, []

    def there() -> list[int]:
        looks.append(1)
        return [node for node in ids() if node != 2 or not 5 <= len(looks) < 8]

    monkeypatch.setattr(grid, "get_node_ids", there)
    assert sorted(wait_for_sites(grid, monkeypatch).sites) == ["n0", "n1", "n2"]
    assert grid.hellos == [0, 1, 2, 2] and clock[0] < 20  # at once, not after a minute


def test_one_more_site_than_wanted_may_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Arriving(most=4, wrong={0: 9})
    roster = wait_for_sites(grid, monkeypatch)
    assert sorted(roster.sites) == ["n1", "n2", "n3"]
    assert roster.rejected == {0: "site 'n0': wrong class list"}


def test_the_reasons_of_those_that_cannot_are_told_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"2 of 3 sites can take part within 100 s: .*; node 2 cannot: site 'n2': wrong class list$"
    with pytest.raises(WireError, match=said):
        wait_for_sites(Arriving(most=3, wrong={2: 9}), monkeypatch)
    with pytest.raises(WireError, match=r"^0 of 3 sites can take part"):
        wait_for_sites(Arriving(most=3, wrong={0: 9, 1: 9, 2: 9}), monkeypatch)
