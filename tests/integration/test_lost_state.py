"""A run that is taken up without something it should have says so: in the log, the journal, the report, at the site."""

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord
from safetensors.numpy import load_file
from trained_runs import TrainedRuns
from written_sites import write_site

from client_app.training.store import SiteStore
from common import wire
from common.config import Experiment, build
from server_app.app import run
from server_app.engines.engines import load_client_app, run_local
from server_app.grids.local_grid import LocalGrid
from server_app.rounds.strategy import FedStrategy
from server_app.run.checkpoint import load_checkpoint, save_checkpoint
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]


class PowerCutError(Exception):
    """Stands for whatever ends a coordinator."""


def stopped(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, **values: Any) -> Path:
    """Return the folder of a run of four rounds that was stopped in its third."""

    def record(self: FedStrategy, real: Any = FedStrategy._record_round) -> None:
        if self._round.number == 3:
            raise PowerCutError
        real(self)

    experiment = tiny(**{"rounds": 4, **values})
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(FedStrategy, "_record_round", record)
        run_local(experiment)
    return experiment.run.output_dir / "run"


def said(folder: Path) -> list[tuple[str, str]]:
    """Return what the journal says was missing, and where; an empty place is the coordinator."""
    events = [event for event in read_events(folder) if event["event"] in ("missing", "lost")]
    return [(str(event["what"]), str(event.get("site", ""))) for event in events]


@pytest.mark.parametrize("method", ["fedloge", "ditto"])
def test_a_site_that_lost_its_personal_parts_is_named(
    tiny: Tiny, method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped(tiny, monkeypatch, method=method)
    shutil.rmtree(folder / "sites" / "site-01")
    older = folder / "sites" / "site-02"
    for path in older.glob("personal-0000[23]*"):
        path.unlink()
    run_local(tiny(rounds=4, method=method, resume=True))
    assert said(folder) == [("personal parts", "site-01"), ("personal parts", "site-02")]
    reported = {e["site"]: (e["round"], e["had"], e["has"]) for e in read_events(folder) if e["event"] == "lost"}
    assert reported == {"site-01": (3, 2, 0), "site-02": (3, 2, 1)}
    printed = capsys.readouterr().out
    assert "round 3: site-01 has lost its personal parts of round 2, and began anew" in printed
    assert "round 3: site-02 has lost its personal parts of round 2, and went on from those of round 1" in printed
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "it last trained in round 2, and began anew" in page and "without 2 thing(s)" in page


def test_parts_lost_before_the_last_step_are_named_too(tiny: Tiny, trained: TrainedRuns) -> None:
    folder = trained.copy()
    shutil.rmtree(folder / "sites" / "site-00")
    run_local(tiny(resume=True))
    assert said(folder) == [("personal parts", "site-00")]


def test_a_method_that_keeps_nothing_at_sites_loses_nothing(tiny: Tiny, trained: TrainedRuns) -> None:
    folder = trained.copy(method="fedavg")
    shutil.rmtree(folder / "sites")
    run_local(tiny(method="fedavg", resume=True))
    assert said(folder) == []


@pytest.mark.parametrize(
    "name", ["config.json", "versions.json", "sites.json", "federation.json", "frame.safetensors", "metrics.jsonl"]
)
def test_a_lost_file_of_the_coordinator_is_named(
    tiny: Tiny, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped(tiny, monkeypatch)
    (folder / name).unlink()
    run_local(tiny(rounds=4, resume=True))
    assert said(folder) == [(name, "")]
    assert f"missing in {folder}: {name}: " in capsys.readouterr().out
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "What was missing" in page and f">{name}<" in page


def test_a_journal_that_lost_some_rounds_is_named(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped(tiny, monkeypatch)
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"round": 1,' not in line))
    run_local(tiny(rounds=4, resume=True))
    assert said(folder) == [("lines of metrics.jsonl", "")]


def test_a_lost_identity_is_taken_from_the_checkpoint(
    tiny: Tiny, trained: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(rounds=4)
    folder = stopped(tiny, monkeypatch)
    identity = json.loads((folder / "run.json").read_text())
    (folder / "run.json").unlink()
    run_local(tiny(rounds=4, resume=True))
    assert json.loads((folder / "run.json").read_text()) == identity
    assert said(folder) == [("run.json", "")]
    for name in ("generic.safetensors", "sites/site-00/personal_model.safetensors"):
        ours, theirs = load_file(folder / name), load_file(whole / name)
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


def test_a_lost_checkpoint_is_named_even_where_an_older_one_takes_its_place(
    tiny: Tiny, trained: TrainedRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained.copy(rounds=3)
    before = load_file(folder / "generic.safetensors")
    (folder / "checkpoints" / "round-00003.safetensors").unlink()
    run_local(tiny(rounds=3, resume=True))
    assert said(folder) == [("checkpoint of round 3", "")]
    assert "checkpoint of round 3: the rounds after 2 are done again" in capsys.readouterr().out
    again = load_file(folder / "generic.safetensors")
    assert all(np.array_equal(before[key], again[key]) for key in before)


def test_a_checkpoint_that_was_never_written_is_not_lost(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: Any) -> None:
        raise PowerCutError  # after the line of the round

    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr("server_app.rounds.strategy.save_checkpoint", save)
        run_local(tiny())
    run_local(tiny(resume=True))
    assert not [what for what, _ in said(tiny().run.output_dir / "run") if what.startswith("checkpoint of")]


def test_lost_checkpoints_are_named(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped(tiny, monkeypatch)
    shutil.rmtree(folder / "checkpoints")
    run_local(tiny(rounds=4, resume=True))
    assert said(folder) == [("checkpoints", "")]
    rounds = [event["round"] for event in read_events(folder) if event["event"] == "round"]
    assert rounds == [1, 2, 3, 4]


def test_a_run_that_lost_nothing_says_nothing(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped(tiny, monkeypatch, participation=0.5, checkpoint_every=2)
    run_local(tiny(rounds=4, participation=0.5, checkpoint_every=2, resume=True))
    assert said(folder) == []
    assert "What was missing" not in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("started_from", [-1, 3, 1.5, float("nan")])
def test_a_round_that_a_site_cannot_have_started_from_is_no_reply(
    tiny: Tiny, started_from: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = wire.metrics_reply

    def lying(message: Any, metrics: Any, *more: Any, **named: Any) -> Any:
        return real(message, dict(metrics) | {wire.STARTED_FROM: started_from}, *more, **named)

    monkeypatch.setattr(wire, "metrics_reply", lying)
    with pytest.raises(wire.WireError, match="0 of 3 replies could be used"):
        run_local(tiny(rounds=2, round_retries=0))


# --- real sites ---------------------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path: Path) -> Callable[..., Path]:
    """Return what runs an experiment at two real sites in this process."""
    sites = [write_site(tmp_path, name) for name in ("west", "north")]

    def start(**changes: Any) -> Path:
        values: dict[str, Any] = {
            "partition": "deployed", "classes": ["cat", "dog"], "image-size": 8, "method": "fedper", "device": "cpu",
            "width": 4, "batch-size": 4, "sites": 2, "rounds": 2, "local-epochs": 1, "evaluate-every": 1,
            "output-dir": tmp_path / "runs", "run-name": "run", "round-retries": 0,
        }  # fmt: skip
        experiment = build(values | {key.replace("_", "-"): value for key, value in changes.items()})
        return run(LocalGrid(load_client_app(), 2, sites), experiment)

    return start


@pytest.fixture
def site_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Let caplog hear the sites' log, which keeps its lines to itself."""
    log = logging.getLogger("fednc.site")
    log.addHandler(caplog.handler)
    yield caplog
    log.removeHandler(caplog.handler)


def test_a_real_sites_log_says_that_its_personal_parts_are_missing(
    real: Callable[..., Path], tmp_path: Path, site_log: pytest.LogCaptureFixture
) -> None:
    folder = real()
    assert "are missing" not in site_log.text
    shutil.rmtree(tmp_path / "west-state" / "run")
    real(rounds=3, resume=True)
    assert "west: the personal parts of round 2, in which this site last trained, are missing" in site_log.text
    assert site_log.text.count("are missing") == 1
    assert said(folder) == [("personal parts", "west")]


def test_a_new_identity_is_said_at_the_sites_and_at_the_coordinator(
    real: Callable[..., Path], site_log: pytest.LogCaptureFixture
) -> None:
    folder = real()
    checkpoint = load_checkpoint(folder)
    assert checkpoint is not None
    save_checkpoint(folder, replace(checkpoint, identity=""), 3)
    for name in ("run.json", "versions.json"):
        (folder / name).unlink()
    real(rounds=3, resume=True)
    lost = [("personal parts", "north"), ("personal parts", "west")]
    assert said(folder)[:2] == [("versions.json", ""), ("run.json", "")] and sorted(said(folder)[2:]) == lost
    assert site_log.text.count("are missing; there are none: they begin anew") == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"round": 0}, "round = 0: such a request is of rounds 1 to 3"),
        ({"round": -5}, "round = -5: such"),
        ({"round": 4}, "round = 4: such"),
        ({"round": 10**12}, "such a request is of rounds 1 to 3"),
        ({"secured": [-1]}, "secured = .*: not rounds before round 3"),
        ({"secured": [0, 3]}, "secured = .*: not rounds before round 3"),
        ({"secured": []}, "secured = .*: not rounds before round 3"),
        ({"trained": 3}, "trained = 3: no round before round 3"),
    ],
)
def test_a_request_of_an_impossible_round_is_refused_and_deletes_nothing(
    real: Callable[..., Path],
    tmp_path: Path,
    change: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    site_log: pytest.LogCaptureFixture,
) -> None:
    real()
    before = {path: path.read_bytes() for path in tmp_path.glob("*-state/run/*/*.safetensors")}
    assert len(before) > 4
    honest = wire.request

    def request(*args: Any, **named: Any) -> Any:
        content = honest(*args, **named)
        if named.get("server_round"):
            content["config"] = ConfigRecord({**content["config"], **change})
        return content

    monkeypatch.setattr(wire, "request", request)
    with pytest.raises(wire.WireError, match="0 of 2 replies could be used"):
        real(rounds=3, resume=True)
    assert re.search(words, site_log.text)
    assert {path: path.read_bytes() for path in tmp_path.glob("*-state/run/*/*.safetensors")} == before


def test_one_message_of_an_earlier_round_deletes_no_personal_parts(real: Callable[..., Path], tmp_path: Path) -> None:
    """It may put them aside; what a checkpoint has secured is deleted once that is later than they are."""
    real(rounds=4)
    versions = sorted(tmp_path.glob("west-state/run/*/personal-*-0000?.safetensors"))
    before = {path: path.read_bytes() for path in versions}
    store = SiteStore(versions[0].parent, versions[0].stem.split("-")[1])
    store.save_version({"w": np.zeros(1, np.float32)}, 1, (0,))
    undone = {path: path.with_suffix(".undone.safetensors") for path in versions}
    assert {path: undone[path].read_bytes() for path in versions} == before
    assert store.load_version(4)[0] == 1
    store.save_version({"w": np.zeros(1, np.float32)}, 2, (0, 1))
    assert [path.exists() for path in undone.values()] == [False, *[True] * (len(versions) - 1)]
