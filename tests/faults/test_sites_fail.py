"""Sites that fail, come late or never come, in one process: what is told, how the run ends, and nobody else's loss."""

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flaky_grid import FlakyGrid
from safetensors.numpy import load_file
from trained_runs import TrainedRuns

import client_app.app as site_code
from common import wire
from common.config import Experiment, build
from server_app.app import run
from server_app.engines.engines import run_local
from server_app.grids import local_grid
from server_app.rounds.cooldown import Cooldown
from server_app.rounds.round import Round
from server_app.rounds.strategy import FedStrategy
from server_app.run.journal import Journal, read_events

Tiny = Callable[..., Experiment]
Fails = Callable[[str, int], bool]  # of a site's name and a round


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fails], None]:
    """Return a function that makes sites raise where it is told to."""

    def set_up(fails: Fails) -> None:
        real = site_code.train_site

        def train(*args: Any, **kwargs: Any) -> dict[str, float]:
            if fails(args[2].name, args[3]):
                raise RuntimeError("scanner on fire")
            return real(*args, **kwargs)

        monkeypatch.setattr(site_code, "train_site", train)

    return set_up


def of(events: Iterable[dict[str, Any]], kind: str, *keys: str) -> list[Any]:
    return [tuple(e[k] for k in keys) if len(keys) > 1 else e[keys[0]] for e in events if e["event"] == kind]


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    paths = [folder / "generic.safetensors", *sorted(folder.glob("sites/*/personal*.safetensors"))]
    return {f"{path.relative_to(folder)}:{k}": v for path in paths for k, v in load_file(path).items()}


def same(ours: Path, theirs: Path) -> bool:
    first, second = arrays_of(ours), arrays_of(theirs)
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


# --- sites that raise -------------------------------------------------------------------------------


def test_a_site_that_raises_each_round_rests_and_the_others_get_what_they_would(
    tiny: Tiny, failing: Callable[[Fails], None], log_text: Callable[[], str]
) -> None:
    failing(lambda site, _: site == "site-01")
    folder = run_local(tiny(rounds=8, rest_after=2, rest_rounds=3))
    events = read_events(folder)
    assert of(events, "rejected", "round", "site") == [(n, "site-01") for n in (1, 2, 6)]
    assert of(events, "rest", "round", "site", "failures", "until") == [(2, "site-01", 2, 5), (6, "site-01", 3, 9)]
    assert of(events, "round", "asked", "answered") == [(3, 2), (3, 2), (2, 2), (2, 2), (2, 2), (3, 2), (2, 2), (2, 2)]
    assert "site-01 has failed 2 times in a row: it rests and is asked again in round 6" in log_text()
    available = run_local(tiny(rounds=8, rest_after=0, run_name="awake"))
    assert of(read_events(available), "rest", "round") == []
    assert same(folder, available)  # resting saves time and changes nothing


def test_every_site_failing_once_ends_well(tiny: Tiny, failing: Callable[[Fails], None]) -> None:
    failing(lambda site, server_round: site == f"site-0{server_round - 1}")
    folder = run_local(tiny(rounds=4, quorum=0.6))
    events = read_events(folder)
    assert of(events, "rejected", "round", "site") == [(1, "site-00"), (2, "site-01"), (3, "site-02")]
    assert of(events, "round", "answered") == [2, 2, 2, 3]
    assert not of(events, "rest", "site")
    assert len(list(folder.glob("sites/*/personal_model.safetensors"))) == 3


def test_all_sites_failing_at_once_leave_the_checkpoint(
    tiny: Tiny, trained: TrainedRuns, failing: Callable[[Fails], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(rounds=3)
    failing(lambda _, server_round: server_round == 2)
    with pytest.raises(wire.WireError, match=r"round 2: 0 of 3 replies .* resume=true"):
        run_local(tiny(rounds=3, run_name="cut", rest_after=1))
    monkeypatch.undo()
    assert same(whole, run_local(tiny(rounds=3, run_name="cut", rest_after=1, resume=True)))


def test_a_resumed_run_lets_the_same_sites_rest(
    tiny: Tiny, failing: Callable[[Fails], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(lambda site, server_round: site == "site-02" and server_round < 8)
    values: dict[str, Any] = {"rounds": 9, "rest_after": 2, "rest_rounds": 2, "checkpoint_every": 3, "sites": 4}
    whole = run_local(tiny(**values, run_name="whole", participation=0.8))
    for last in (3, 5, 8):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            real = FedStrategy._record_round

            def cut(self: FedStrategy, last: int = last, real: Any = real) -> None:
                if self._round.number >= last:
                    raise KeyboardInterrupt
                real(self)

            patch.setattr(FedStrategy, "_record_round", cut)
            run_local(tiny(**values, run_name="cut", participation=0.8, resume=True))
    resumed = run_local(tiny(**values, run_name="cut", participation=0.8, resume=True))
    assert same(whole, resumed)
    for kind, keys in (("rest", ("round", "site", "until")), ("rejected", ("round", "site")), ("round", ("asked",))):
        assert of(read_events(whole), kind, *keys) == of(read_events(resumed), kind, *keys)
    assert of(read_events(whole), "rest", "round")


def test_so_many_never_rest_that_the_quorum_is_out_of_reach(tmp_path: Path) -> None:
    experiment = build({"quorum": 0.5, "rest-after": 1, "rest-rounds": 10, "output-dir": tmp_path})
    cooldown, names = Cooldown(experiment, Journal(tmp_path / "run", experiment)), ["a", "b", "c", "d"]
    asked = []
    for number, failed in enumerate(("a", "b", "c"), 1):
        now = Round(number, cooldown.eligible(names, number, names))
        now.answered = [name for name in now.asked if name != failed]
        cooldown.record(now)
        asked.append(now.asked)
    assert asked == [names, ["b", "c", "d"], ["c", "d"]]
    assert cooldown.eligible(names, 4, names) == names  # with c resting too, two of four could not answer
    again = Cooldown(experiment, Journal(tmp_path / "run", experiment))
    again.restore(cooldown.state())
    for n in (3, 4, 12, 13):
        assert again.eligible(names, n, names) == cooldown.eligible(names, n, names)


def test_a_site_without_images_is_none_of_the_models_that_an_aggregation_needs(tmp_path: Path) -> None:
    experiment = build({"aggregation": "median", "rest-after": 1, "rest-rounds": 10, "output-dir": tmp_path})
    cooldown, names = Cooldown(experiment, Journal(tmp_path / "run", experiment)), ["a", "b", "c", "d", "e"]
    now = Round(1, list(names))
    now.answered = ["a", "b", "d", "e"]
    cooldown.record(now)
    assert cooldown.eligible(names, 2, names) == ["a", "b", "d", "e"]
    assert cooldown.eligible(names, 2, ["a", "b", "c"]) == names  # two models would be no median
    assert cooldown.eligible(names, 2, ["a", "b", "c", "d"]) == ["a", "b", "d", "e"]


# --- slow, late and absent sites --------------------------------------------------------------------


def test_a_slow_site_is_named_and_the_round_ends_at_its_deadline(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, log_text: Callable[[], str]
) -> None:
    real, clock = site_code.train_site, [0.0]
    monkeypatch.setattr(local_grid, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def slow(*args: Any) -> dict[str, float]:
        if args[2].name == "site-01" and args[3] == 2:
            clock[0] += 30  # the sites after it wait for it in this engine, and have their own time
        return real(*args)

    monkeypatch.setattr(site_code, "train_site", slow)
    events = read_events(run_local(tiny(rounds=3, round_timeout=25, quorum=0.6)))
    assert of(events, "rejected", "round", "site", "reason") == [(2, "site-01", "no answer within 25 s")]
    assert of(events, "round", "answered") == [3, 2, 3]
    assert "round 2: site-01 left out: no answer within 25 s" in log_text()


def test_a_reply_that_comes_too_late_is_not_used(flaky_sites: Any, log_text: Callable[[], str]) -> None:
    sites, experiment = flaky_sites("north", "south", "west", quorum=0.5)
    rounds: list[int] = []

    def silent(node: int, kind: str) -> bool:
        rounds.extend([1] if (node, kind) == (2, wire.TRAIN) else [])
        return node == 2 and kind == wire.TRAIN and len(rounds) == 2

    folder = run(FlakyGrid(sites, lambda _: True, silent), experiment)
    events = read_events(folder)
    assert of(events, "rejected", "round", "site", "reason") == [(2, "south", "no answer within 5 s")]
    assert of(events, "round", "answered") == [3, 2, 3]


def test_a_site_that_never_comes_is_waited_for_and_told(
    flaky_sites: Any, log_text: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sites, experiment = flaky_sites("north", "south", round_timeout=0.5)
    with pytest.raises(wire.WireError, match=r"1 of 2 sites connected within 0\.5 s: start the others"):
        run(FlakyGrid(sites, lambda node: node == 1), experiment)
    assert "1 of 2 sites connected; waiting" in log_text()
    assert not (experiment.run.output_dir / "run").exists()  # nothing is in the way of the next try


def test_a_run_does_not_begin_while_two_of_its_sites_have_one_name(flaky_sites: Any) -> None:
    sites, experiment = flaky_sites("north", "south", "north")
    with pytest.raises(wire.WireError, match=r"^1 of 3 .* two sites call themselves 'north': give each"):
        run(FlakyGrid(sites, lambda _: True), experiment)


def test_a_run_that_needs_neither_of_two_sites_of_one_name_leaves_both_out(flaky_sites: Any) -> None:
    sites, experiment = flaky_sites("north", "south", "north", sites=1, quorum=0.5)
    events = read_events(run(FlakyGrid(sites, lambda _: True), experiment))
    assert of(events, "round", "answered") == [1, 1, 1]
    assert {1, 3} <= set(of(events, "left-out", "node")) and not of(events, "joined", "site")


def test_a_late_site_of_a_name_that_is_taken_takes_no_part(flaky_sites: Any, log_text: Callable[[], str]) -> None:
    sites, experiment = flaky_sites("north", "south", "north", sites=2)
    grid = FlakyGrid(sites, lambda node: node < 3 or (1, wire.TRAIN) in grid.asked)
    events = read_events(run(grid, experiment))
    assert of(events, "round", "answered") == [2, 2, 2] and not of(events, "joined", "site")
    assert "node 3 left out: another site calls itself 'north', too" in log_text()
    assert sum(asked == (3, wire.HELLO) for asked in grid.asked) <= 3


def test_a_late_site_whose_name_looks_like_anothers_takes_no_part(
    flaky_sites: Any, log_text: Callable[[], str]
) -> None:
    sites, experiment = flaky_sites("north", "south", "North", sites=2)
    grid = FlakyGrid(sites, lambda node: node < 3 or (1, wire.TRAIN) in grid.asked)
    events = read_events(run(grid, experiment))
    assert of(events, "round", "answered") == [2, 2, 2] and not of(events, "joined", "site")
    assert "node 3 left out: 'North' looks like 'north', which takes part: did you mean one of them?" in log_text()
