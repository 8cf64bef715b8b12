"""The journal: enough to make the run again, with everything that happened in it, and no secret."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from written_sites import write_site

import client_app.app as site_code
from common import wire
from common.config import Experiment, build
from common.installed import code_fingerprint
from common.seeds import numpy_generator
from server_app.app import run
from server_app.engines.engines import load_client_app, run_local
from server_app.grids.local_grid import LocalGrid
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def fail(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str, int], bool], words: str) -> None:
    """Make sites raise where `fails` says so."""
    real = site_code.train_site

    def train(*args: Any, **kwargs: Any) -> dict[str, float]:
        if fails(args[2].name, args[3]):
            raise RuntimeError(words)
        return real(*args, **kwargs)

    monkeypatch.setattr(site_code, "train_site", train)


def test_a_run_is_made_again_from_its_journal_alone(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {"rounds": 5, "sites": 5, "participation": 0.7, "quorum": 0.3, "max_site_images": 20}
    values |= {"rest_after": 0}
    with monkeypatch.context() as patch:
        fail(patch, lambda site, number: site == "site-01" or (number == 3 and site == "site-02"), "scanner on fire")
        first = read_events(run_local(tiny(**values, run_name="first")))
    (begin,) = of(first, "begin")
    assert begin["round"] == 0 and begin["versions"]["code"] == code_fingerprint() and begin["damaged"] == []
    rounds = of(first, "round")
    assert [event["round"] for event in rounds] == [1, 2, 3, 4, 5]
    left_out = {(event["site"], event["round"]) for event in of(first, "rejected")}
    assert {site for site, _ in left_out} >= {"site-01"}
    names = sorted(begin["sites"])
    for event in rounds:
        generator = numpy_generator(begin["config"]["seed"], "sample", server_round=event["round"])
        asked = set(generator.choice(names, size=round(0.7 * len(names)), replace=False).tolist())
        silent = {site for site, number in left_out if number == event["round"]}
        assert asked == event["weights"].keys() | silent and event["asked"] == len(asked)
        assert event["weights"] == {name: min(20, begin["sites"][name]["num_train"]) for name in asked - silent}

    again = build(begin["config"] | {"run-name": "again"})
    fail(monkeypatch, lambda site, number: (site, number) in left_out, "as the journal says")
    second = read_events(run_local(again))
    assert [event["model"] for event in of(second, "round")] == [event["model"] for event in rounds]
    assert of(second, "personal")[-1]["sites"] == of(first, "personal")[-1]["sites"]


def test_how_a_run_began_stopped_and_went_on_is_in_it(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(wire.WireError):
        fail(patch, lambda _, number: number == 3, "scanner on fire")
        run_local(tiny(rounds=3, round_retries=0))
    folder = tiny().run.output_dir / "run"
    (newest,) = (folder / "checkpoints").glob("round-00002.*")
    newest.write_bytes(newest.read_bytes()[:-1])
    events = read_events(run_local(tiny(rounds=3, resume=True)))
    assert [event["round"] for event in of(events, "begin")] == [0, 1]
    assert of(events, "begin")[1]["damaged"] == ["round-00002.damaged"]
    (stopped,) = of(events, "stopped")
    assert stopped["reason"].startswith("WireError: round 3: 0 of 3 replies could be used")
    assert [event["round"] for event in of(events, "round")] == [1, 2, 3]
    undone = (folder / "metrics.undone.jsonl").read_text()
    assert "scanner on fire" in undone and '"event": "no-quorum"' in undone


SECRET = "hunter2"


def test_nothing_that_belongs_to_a_site_or_to_the_machine_is_in_a_runs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sites' folders, image names and what a site's code said when it failed; the coordinator's environment."""
    monkeypatch.setenv("FLWR_TOKEN", SECRET)
    monkeypatch.setenv("REGISTRY_PASSWORD", SECRET)
    sites = []
    for name in ("north", "south"):
        data = f"{SECRET}-{name}"
        sites.append(write_site(tmp_path, name, images=6, **{"data": data, "state-dir": f"{data}/state"}))
    fail(monkeypatch, lambda site, _: site == "south", f"cannot log in with password={SECRET} to read smith-3.png")
    values = {
        "partition": "deployed", "classes": ["cat", "dog"], "image-size": 8, "device": "cpu", "width": 4, "sites": 2,
        "batch-size": 4, "rounds": 2, "local-epochs": 1, "evaluate-every": 1, "quorum": 0.5,
        "output-dir": tmp_path / "runs", "run-name": "run",
    }  # fmt: skip
    folder = run(LocalGrid(load_client_app(), 2, sites), build(values))
    assert [event["site"] for event in of(read_events(folder), "rejected")] == ["south", "south"]
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 8
    for path in written:
        content = path.read_bytes()
        assert not [word for word in (SECRET, "smith-", "PRIVATE KEY") if word.encode() in content], path
