"""A run that stopped and is taken up again equals one that never stopped, bit for bit, for every method."""

import errno
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared_runs import PowerCutError, arrays_of, metrics_of
from safetensors.numpy import load_file, save_file
from trained_runs import TrainedRuns

from common.config import Experiment
from common.errors import UserError
from common.methods import METHODS
from server_app.engines.engines import run_local
from server_app.rounds.strategy import FedStrategy
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]


def cut(monkeypatch: pytest.MonkeyPatch, name: str, server_round: int) -> None:
    """End the run at the first call of a function of the strategy in a round."""
    real = getattr(FedStrategy, name)

    def failing(self: FedStrategy, *args: Any) -> Any:
        if self._round.number >= server_round:
            raise PowerCutError
        return real(self, *args)

    monkeypatch.setattr(FedStrategy, name, failing)


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_for: Tiny, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {"method": name, "rounds": 4, "finetune_epochs": 1, "participation": 0.7}
    whole = run_local(tiny_for(**values, run_name="whole"))
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        cut(patch, "_record_round", 3)  # the sites have trained and kept round 3, the coordinator has lost it
        run_local(tiny_for(**values, run_name="cut"))
    assert len(metrics_of(whole.parent / "cut")) < len(metrics_of(whole))
    resumed = run_local(tiny_for(**values, run_name="cut", resume=True))
    expected, found = arrays_of(whole), arrays_of(resumed)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[key], found[key]) for key in expected)
    assert metrics_of(resumed) == metrics_of(whole)


@pytest.mark.parametrize(("where", "server_round"), [("evaluate_generic", 2), ("personalise", 0), ("_add_reply", 1)])
def test_wherever_the_coordinator_stopped(
    tiny: Tiny, trained: TrainedRuns, where: str, server_round: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"rounds": 3, "wire": "half" if where == "_add_reply" else "single"}
    whole = trained(**values)
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        cut(patch, where, server_round)
        run_local(tiny(**values, run_name="cut"))
    resumed = run_local(tiny(**values, run_name="cut", resume=True))
    expected, found = arrays_of(whole), arrays_of(resumed)
    assert all(np.array_equal(expected[key], found[key]) for key in expected)
    assert metrics_of(resumed) == metrics_of(whole)


def test_a_damaged_checkpoint_is_said_aloud_and_the_one_before_it_is_used(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values: dict[str, Any] = {"rounds": 4, "method": "ditto"}
    whole = run_local(tiny(**values, run_name="whole"))
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        cut(patch, "_record_round", 4)
        run_local(tiny(**values, run_name="cut"))
    folder = whole.parent / "cut" / "checkpoints"
    newest, before = folder / "round-00003.safetensors", folder / "round-00002.safetensors"
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1  # one bit of one weight
    newest.write_bytes(content)
    before.write_bytes(before.read_bytes()[:100])  # and half a file
    logging.getLogger("fednc").addHandler(caplog.handler)
    try:
        resumed = run_local(tiny(**values, run_name="cut", resume=True))
    finally:
        logging.getLogger("fednc").removeHandler(caplog.handler)
    log = caplog.text
    assert "round-00003.safetensors is damaged" in log and "round-00002.safetensors is damaged" in log
    assert "taken up after round 1 of 4" in log
    expected, found = arrays_of(whole), arrays_of(resumed)
    assert all(np.array_equal(expected[key], found[key]) for key in expected)


def test_a_finished_run_taken_up_again_only_ends_again(tiny: Tiny, trained: TrainedRuns) -> None:
    folder = trained.copy(run_name="whole")
    before, figures = arrays_of(folder), metrics_of(folder)
    again = arrays_of(run_local(tiny(run_name="whole", resume=True)))
    assert all(np.array_equal(before[key], again[key]) for key in before)
    assert metrics_of(folder) == figures


def test_checkpoints_may_be_rounds_apart(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {"rounds": 8, "method": "ditto", "checkpoint_every": 3, "participation": 0.5}
    whole = run_local(tiny(**values, run_name="whole"))
    for last in (5, 8):
        with monkeypatch.context() as patch, pytest.raises(PowerCutError):
            cut(patch, "_record_round", last)
            run_local(tiny(**values, run_name="cut", resume=True))
    resumed = run_local(tiny(**values, run_name="cut", resume=True))
    expected, found = arrays_of(whole), arrays_of(resumed)
    assert all(np.array_equal(expected[key], found[key]) for key in expected)
    assert metrics_of(resumed) == metrics_of(whole)
    for site in resumed.glob("sites/*"):
        versions = sorted(int(path.stem[-5:]) for path in site.glob("personal-*"))
        assert all(n >= 3 for n in versions[1:])  # checkpoints are those of rounds 3, 6 and 8


def test_rounds_between_checkpoints_may_change_where_a_run_is_taken_up(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"rounds": 8, "method": "ditto"}
    whole = run_local(tiny(**values, run_name="whole"))
    for last, every in ((4, 1), (7, 2), (8, 3)):
        with monkeypatch.context() as patch, pytest.raises(PowerCutError):
            cut(patch, "_record_round", last)
            run_local(tiny(**values, run_name="cut", checkpoint_every=every, resume=True))
    newest = sorted((whole.parent / "cut" / "checkpoints").glob("round-*"))[-1]
    newest.write_bytes(b"")  # and the next start is from the one before it
    resumed = run_local(tiny(**values, run_name="cut", checkpoint_every=5, resume=True))
    expected, found = arrays_of(whole), arrays_of(resumed)
    generic = [key for key in expected if "personal-" not in key]
    assert all(np.array_equal(expected[key], found[key]) for key in generic)
    assert metrics_of(resumed) == metrics_of(whole)


def test_with_every_checkpoint_damaged_the_run_begins_again_only_if_asked_to(tiny: Tiny, trained: TrainedRuns) -> None:
    folder = trained.copy(run_name="whole", rounds=4)
    before = arrays_of(folder)
    for path in (folder / "checkpoints").glob("round-*"):
        path.write_bytes(path.read_bytes()[:100])
    for _ in range(2):  # the second time they have been renamed
        with pytest.raises(UserError, match=r"no checkpoint is sound; .* remove that folder and run once more"):
            run_local(tiny(run_name="whole", rounds=4, resume=True))
    assert len(list((folder / "checkpoints").glob("*.damaged"))) == 3
    assert arrays_of(folder).keys() == before.keys()
    (folder / "checkpoints").rename(folder / "damaged")
    again = run_local(tiny(run_name="whole", rounds=4, resume=True))
    expected = arrays_of(again)
    assert all(np.array_equal(before[key], expected[key]) for key in before)
    assert [p.name for p in sorted((folder / "checkpoints").glob("*.safetensors"))][-1] == "round-00004.safetensors"


@pytest.mark.parametrize("what", ["open", "iterdir"])
def test_a_checkpoint_that_cannot_be_read_just_now_is_not_damaged(
    tiny: Tiny, trained: TrainedRuns, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained.copy(run_name="whole")
    before = sorted(path.name for path in folder.rglob("*"))
    real = getattr(Path, what)

    def failing(path: Path, *args: Any, **named: Any) -> Any:
        if path.name == "checkpoints" or (path.parent.name == "checkpoints" and "rb" in args):
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, what, failing)
        with pytest.raises(UserError, match=r"checkpoints.*: cannot be read just now .*Too many open files"):
            run_local(tiny(run_name="whole", resume=True))
    assert sorted(path.name for path in folder.rglob("*")) == before
    run_local(tiny(run_name="whole", resume=True))


def test_other_data_or_other_versions_are_noticed(tiny: Tiny, trained: TrainedRuns) -> None:
    folder = trained.copy(run_name="whole")
    versions = json.loads((folder / "versions.json").read_text())
    (folder / "versions.json").write_text(json.dumps(versions | {"torch": "1.0"}))
    run_local(tiny(run_name="whole", resume=True))
    (event,) = [e for e in read_events(folder) if e["event"] == "versions"]
    assert event["changed"] == {"torch": ["1.0", versions["torch"]]}
    federation = json.loads((folder / "federation.json").read_text())
    federation["train_counts"][0][0] += 1
    (folder / "federation.json").write_text(json.dumps(federation))
    before = content_of(folder)
    with pytest.raises(UserError, match=r"train_counts of the run in .* differ"):
        run_local(tiny(run_name="whole", resume=True, rounds=9))
    assert content_of(folder) == before  # a refusal takes nothing back of what was finished


@pytest.mark.parametrize("name", ["config", "versions", "run", "sites", "federation"])
def test_a_damaged_file_is_refused_before_anything_changes_and_the_run_goes_on_without(
    tiny: Tiny, trained: TrainedRuns, name: str
) -> None:
    folder = trained.copy(run_name="whole")
    (folder / f"{name}.json").write_text("[1, 2")
    before = content_of(folder)
    with pytest.raises(UserError, match=rf"{name}\.json: cannot be read: .*put a copy back, or remove it"):
        run_local(tiny(run_name="whole", resume=True, rounds=3))
    assert content_of(folder) == before
    (folder / f"{name}.json").unlink()
    run_local(tiny(run_name="whole", resume=True, rounds=3))


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_start_without_a_checkpoint_binds_the_next_to_nothing(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing came of it, so data that were mended since are no other run's."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FedStrategy, "sample", interrupt)
        run_local(tiny(run_name="new", resume=True))
    folder = tiny().run.output_dir / "new"
    save_file({"frame": np.zeros((3, 16), np.float32)}, folder / "frame.safetensors")  # of other classes
    facts = {path: path.read_text() for path in (folder / "federation.json", folder / "sites.json")}
    (folder / "federation.json").write_text(json.dumps(json.loads(facts[folder / "federation.json"]) | {"num_test": 1}))
    sites = json.loads(facts[folder / "sites.json"])
    (folder / "sites.json").write_text(json.dumps({name: counts | {"num_train": 1} for name, counts in sites.items()}))
    run_local(tiny(run_name="new", resume=True))
    assert {path: path.read_text() for path in facts} == facts
    assert load_file(folder / "frame.safetensors")["frame"].shape == (10, 16)


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_resume_without_a_run_begins_one(tiny: Tiny) -> None:
    assert (run_local(tiny(run_name="new", resume=True)) / "summary.json").exists()


def test_another_experiment_is_not_taken_up(tiny: Tiny, trained: TrainedRuns) -> None:
    folder = trained.copy(run_name="whole")
    with pytest.raises(UserError, match=r"learning-rate = 0\.5, but the run in .*whole has 0\.03"):
        run_local(tiny(run_name="whole", resume=True, learning_rate=0.5))
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        run_local(tiny(run_name="whole", resume=True))


def test_lines_taken_back_are_kept_beside_the_journal(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        cut(patch, "_record_round", 2)
        run_local(tiny(run_name="cut"))
    folder = tiny().run.output_dir / "cut"
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"event": "round", "rou')  # the crash came in the middle of a line
    run_local(tiny(run_name="cut", resume=True))
    undone = (folder / "metrics.undone.jsonl").read_text().splitlines()
    assert undone[-1] == '{"event": "round", "rou'
    assert any(json.loads(line)["event"] == "generic" for line in undone[:-1])
