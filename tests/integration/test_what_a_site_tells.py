"""What the coordinator hears of a real site that fails: that it did, and no file's name; a refusal with its reason."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message
from safetensors.numpy import load_file
from written_sites import write_site

from client_app.training.store import SiteStore
from common import files, wire
from common.config import Experiment, build
from common.errors import UserError
from server_app.app import run
from server_app.engines.engines import load_client_app
from server_app.grids.local_grid import LocalGrid
from server_app.report.record import read_run
from server_app.run.journal import read_events

Deployed = Callable[..., Experiment]


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    def make(**changes: Any) -> Experiment:
        values: dict[str, Any] = {
            "partition": "deployed", "classes": ["cat", "dog"], "image-size": 8, "method": "fedrod", "device": "cpu",
            "width": 4, "batch-size": 4, "sites": 2, "rounds": 1, "local-epochs": 1, "evaluate-every": 1,
            "quorum": 0.5, "round-retries": 0, "output-dir": tmp_path / "runs", "run-name": "run",
        }  # fmt: skip
        return build(values | {key.replace("_", "-"): value for key, value in changes.items()})

    return make


def start(experiment: Experiment, *sites: dict[str, str]) -> Path:
    return run(LocalGrid(load_client_app(), len(sites), list(sites)), experiment)


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    """Let caplog hear both logs, which keep their lines to themselves."""
    for name in ("fednc", "fednc.site"):
        logging.getLogger(name).addHandler(caplog.handler)
        logging.getLogger(name).propagate = False


def lines(caplog: pytest.LogCaptureFixture, name: str) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.name == name)


@pytest.mark.parametrize(
    ("broken", "secret"),
    [
        (lambda folder: (folder / "smith-3.png").unlink(), "manifest.csv:5: image 'smith-3.png': there is no file"),
        (lambda folder: (folder / "smith-3.png").write_bytes(b"x"), "smith-3.png: not a readable image"),
        (lambda folder: (folder / "manifest.csv").write_text("image,label\nsmith-3.png,wolf\n"), "label 'wolf' is no"),
        (lambda folder: (folder / "manifest.csv").unlink(), "no images; expected manifest.csv"),
    ],
)
def test_a_mistake_at_a_site_stays_in_its_log(
    broken: Callable[[Path], object], secret: str, tmp_path: Path, deployed: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    sites = [write_site(tmp_path, name) for name in ("west", "north")]
    broken(tmp_path / "west")
    start(deployed(sites=1), *sites)
    assert secret in lines(caplog, "fednc.site")
    (reported,) = {record.getMessage() for record in caplog.records if "left out" in record.getMessage()}
    assert reported.endswith("left out: the site failed (UserError); its own log says why")


def test_a_refusal_is_told_with_site_and_reason(
    tmp_path: Path, deployed: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    sites = write_site(tmp_path, "west", policy={"methods": ["fedavg"]}), write_site(tmp_path, "north")
    start(deployed(sites=1), *sites)
    reported = "left out: site 'west': this site refuses method = 'fedrod': its policy's methods are fedavg"
    assert reported in lines(caplog, "fednc")


def test_a_full_disk_at_a_site_loses_nothing(
    tmp_path: Path, deployed: Deployed, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "west-state"

    write = files.save_file

    def save(arrays: Any, path: Path, facts: dict[str, str]) -> None:
        if full in path.parents:
            raise OSError(28, "No space left on device")
        write(arrays, path, facts)

    sites = [write_site(tmp_path, name) for name in ("west", "north")]
    monkeypatch.setattr("common.files.save_file", save)
    folder = start(deployed(), *sites)
    assert "cannot be written ([Errno 28] No space left on device); make room for it" in lines(caplog, "fednc.site")
    assert "round 1: west left out: the site failed (UserError); its own log says why" in lines(caplog, "fednc")
    assert (folder / "generic.safetensors").exists()
    with pytest.raises(UserError, match="cannot be written"):
        SiteStore(full / "run" / "west").save("personal", {"x": np.zeros(3, np.float32)})


def test_the_replies_hold_only_what_the_wire_names(
    tmp_path: Path, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every record of every message of a run, by name: arrays of shared parts, and scalars of the table."""
    seen: dict[str, set[str]] = {"arrays": set(), "scalars": set(), "words": set()}
    answer = LocalGrid._answer

    def look(grid: LocalGrid, message: Message) -> Message:
        reply = answer(grid, message)
        for record in reply.content.values():
            kind = "arrays" if isinstance(record, ArrayRecord) else "scalars"
            for key, value in record.items():
                seen["words" if isinstance(value, str) else kind].add(key)
        return reply

    monkeypatch.setattr(LocalGrid, "_answer", look)
    start(deployed(finetune_epochs=1), *(write_site(tmp_path, name) for name in ("west", "north")))
    assert {name.split(".")[0] for name in seen["arrays"]} == {"backbone", "aux_head"}
    assert seen["words"] == {"site", "code", "frame-hash"}
    stages = ("arrival", "final", "finetuned")
    figures = {f"{metric}-{stage}" for metric in ("hits", "balanced_accuracy") for stage in stages}
    losses = {name for name in seen["scalars"] if name.startswith("loss-")}
    assert seen["scalars"] - losses == {"num-train", "num-test", "num-examples", "round", wire.STARTED_FROM} | figures
    assert wire.EXTRAS.keys() & seen["arrays"] == set()


def test_a_policy_keeps_losses_figures_and_small_classes_at_the_site(
    tmp_path: Path, deployed: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    silent = write_site(tmp_path, "west", policy={"metrics": []})
    folder = start(deployed(sites=1), silent)
    reported = [event for event in read_events(folder) if event["event"] == "personal"]
    assert reported == [] and (folder / "report.html").exists()
    assert [event["loss"] for event in read_events(folder) if event["event"] == "round"] == [{}]
    assert "| 1 of 1 sites | loss – |" in lines(caplog, "fednc")
    small = write_site(tmp_path, "north", policy={"extras": ["class_counts"], "min-class-size": 4})
    large = write_site(tmp_path, "south", policy={"extras": ["class_counts"], "min-class-size": 3})
    start(deployed(method="fedavg_la_global", run_name="extras", sites=1), small, large)
    (refusal,) = {record.getMessage() for record in caplog.records if "left out" in record.getMessage()}
    assert refusal.endswith(
        "site 'north': this site refuses to send class_counts: a class has fewer than its policy's min-class-size 4"
    )


def test_metrics_by_class_leave_where_the_policy_names_them_and_only_there(
    tmp_path: Path, deployed: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    open_site = write_site(tmp_path, "west", policy={"extras": ["class_metrics"]})
    small = write_site(tmp_path, "south", policy={"extras": ["class_metrics"], "min-class-size": 2})
    folder = start(deployed(sites=3, finetune_epochs=1), open_site, small, write_site(tmp_path, "north"))
    record = read_run(folder)
    for stage in ("final", "finetuned"):
        told = record.site_class_accuracy(stage)
        assert told.keys() == {"west", "south"} and told["south"] == [None, None]  # one test image a class
        hits = (record.personal(stage) or {})["sites"]["west"]["accuracy"]
        assert set(told["west"]) <= {0.0, 1.0} and hits == sum(map(float, told["west"])) / 2
    assert not [e for e in read_events(folder) if e["event"] == "rejected"]
    logged = [line for line in lines(caplog, "fednc.site").splitlines() if "personal model kept in" in line]
    assert [("north-state" in line, "bytes of arrays (class_metrics) and" in line) for line in sorted(logged)] == [
        (True, False), (False, True), (False, True),
    ]  # fmt: skip


def test_a_sites_log_names_the_device_and_the_bytes_that_were_sent(
    tmp_path: Path, deployed: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = start(deployed(sites=1, device="auto"), write_site(tmp_path, "west", device="cpu"))
    (event,) = [event for event in read_events(folder) if event["event"] == "round"]
    (line,) = [line for line in lines(caplog, "fednc.site").splitlines() if line.startswith("round 1: ")]
    assert "6 training and 2 test images on cpu, " in line
    assert f"got {event['bytes_down']} bytes of arrays" in line and f"sends {event['bytes_up']} bytes of arrays" in line
    model = load_file(folder / "generic.safetensors")
    shared = sum(array.nbytes for name, array in model.items() if name.startswith(("backbone.", "aux_head.")))
    assert shared < event["bytes_up"] < shared + 256 * len(model)  # NumPy's headers
