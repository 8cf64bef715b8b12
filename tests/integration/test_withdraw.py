"""A site is taken out of a run whose head is solved: what is left is what it would be without it, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from trained_runs import TrainedRuns

from common.config import Experiment
from common.data import build_federation
from common.errors import UserError
from server_app.engines.engines import run_local
from server_app.methods import load as load_server
from server_app.run.checkpoint import kept_checkpoints
from server_app.run.disk import locked
from server_app.run.journal import read_events, read_json
from server_app.withdraw import withdraw

Tiny = Callable[..., Experiment]
ROUNDS: dict[str, Any] = {"method": "fedridge", "rounds": 2}


def head_of(folder: Path) -> dict[str, bytes]:
    arrays = load_file(folder / "generic.safetensors")
    return {name: array.tobytes() for name, array in arrays.items() if name.startswith("aux_head.")}


def without(experiment: Experiment, sums: dict[str, Any], site: str) -> dict[str, bytes]:
    """Return the head of a coordinator that never heard of a site."""
    method = load_server(experiment.method)(experiment, build_federation(experiment))
    method.begin()
    for name in sorted(sums.keys() - {site}):
        method.add_extras(name, {"feature_sums": sums[name]})
    broadcast = {"aux_head.weight": np.zeros((10, 16), np.float32), "aux_head.bias": np.zeros(10, np.float32)}
    return {name: array.tobytes() for name, array in method.finish(broadcast, {}, 1)[0].items()}


@pytest.mark.parametrize("method", ["fedridge", "fed3r"])
def test_what_is_left_is_what_it_would_be_without_the_site(tiny: Tiny, trained: TrainedRuns, method: str) -> None:
    keys = ROUNDS | {"method": method}
    folder = trained.copy(**keys)
    before, sums = head_of(folder), kept_checkpoints(folder)[-1].method
    score = read_json(folder / "summary.json")["headline"]["generic"]
    withdraw(folder, "site-01")
    assert head_of(folder) == without(tiny(**keys), sums, "site-01") != before
    for checkpoint in kept_checkpoints(folder):
        assert checkpoint.method.keys() == {"site-00", "site-02"}
        assert "site-01" not in {*checkpoint.sites, *checkpoint.trained}
    (event,) = [e for e in read_events(folder) if e["event"] == "withdrawn"]
    assert event["site"] == "site-01" and len(event["sums_sha256"]) == 64
    assert read_json(folder / "summary.json")["headline"]["generic"] != score
    assert (folder / "report.html").stat().st_size > 10_000


def test_a_withdrawn_site_stays_out_of_later_rounds(
    tiny: Tiny, trained: TrainedRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained.copy(**ROUNDS)
    sums = kept_checkpoints(folder)[-1].method
    withdraw(folder, "site-01")
    resumed = tiny(**ROUNDS | {"rounds": 3}, run_name=folder.name, output_dir=folder.parent, resume=True)
    run_local(resumed)
    assert "withdrawn from this run, and left out: site-01" in capsys.readouterr().out
    assert head_of(folder) == without(tiny(**ROUNDS), sums, "site-01")
    last = [e for e in read_events(folder) if e["event"] == "round"][-1]
    assert (last["round"], last["answered"]) == (3, 2)
    personal = [e for e in read_events(folder) if e["event"] == "personal" and e["stage"] == "final"][-1]
    assert personal["sites"].keys() == {"site-00", "site-02"}


def test_two_sites_leave_in_any_order(trained: TrainedRuns) -> None:
    heads = []
    for order in (("site-00", "site-02"), ("site-02", "site-00")):
        folder = trained.copy(**ROUNDS, run_name="-".join(order))
        for site in order:
            withdraw(folder, site)
        heads.append(head_of(folder))
    assert heads[0] == heads[1]


def test_mistakes_change_nothing(tiny: Tiny, trained: TrainedRuns) -> None:
    folder = trained.copy(**ROUNDS)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(UserError, match=r"unknown site 'site-1' \(did you mean 'site-01'"):
        withdraw(folder, "site-1")
    with locked(folder), pytest.raises(UserError, match="another process is at work"):
        withdraw(folder, "site-01")
    with pytest.raises(UserError, match="is not a run's folder"):
        withdraw(folder / "nowhere", "site-01")
    assert {path: path.read_bytes() for path in before} == before
    withdraw(folder, "site-01")
    with pytest.raises(UserError, match="'site-01' was withdrawn before"):
        withdraw(folder, "site-01")
    withdraw(folder, "site-00")
    with pytest.raises(UserError, match="'site-02' is the only site of this run"):
        withdraw(folder, "site-02")
    trained_one = trained.copy(method="fedavg", run_name="trained")
    with pytest.raises(UserError, match="FedAvg's model was trained"):
        withdraw(trained_one, "site-01")


def test_a_damaged_checkpoint_is_named_and_nothing_changes(trained: TrainedRuns) -> None:
    folder = trained.copy(**ROUNDS)
    path = folder / "checkpoints" / "round-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    head = head_of(folder)
    with pytest.raises(UserError, match=r"round-00001\.safetensors: cannot be read"):
        withdraw(folder, "site-01")
    assert head_of(folder) == head and not (folder / "withdrawn.json").exists()


def test_the_report_says_what_was_solved_and_who_left(trained: TrainedRuns) -> None:
    folder = trained.copy(**ROUNDS)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "What the generic head was solved of" in page and "Losses by round" not in page
    withdraw(folder, "site-01")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "without site-01" in page and "Withdrawn after the run: site-01" in page
