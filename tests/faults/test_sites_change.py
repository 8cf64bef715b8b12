"""Sites that come late, leave, come back as others, or with other images or another run's state."""

import json
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flaky_grid import FlakyGrid
from safetensors.numpy import load_file

from common import wire
from server_app.app import run
from server_app.run.journal import read_events


def of(events: Iterable[dict[str, Any]], kind: str, *keys: str) -> list[Any]:
    return [tuple(e[k] for k in keys) if len(keys) > 1 else e[keys[0]] for e in events if e["event"] == kind]


def test_personal_parts_of_another_run_of_the_same_name_are_not_used(
    flaky_sites: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """South's of an earlier run lie there; in the next one it joins late, and starts as any late site does."""
    sites, experiment = flaky_sites("north", "south", rounds=2, method="fedper")
    run(FlakyGrid(sites, lambda _: True), experiment)
    models, log = [], logging.getLogger("fednc.site")
    log.addHandler(caplog.handler)
    for name in ("used", "fresh"):
        options = {"sites": 1, "output_dir": tmp_path / name}
        grid = FlakyGrid(sites, lambda node: node == 1 or (1, wire.TRAIN) in grid.asked)  # noqa: B023
        folder = run(grid, experiment.replace(**options))
        assert of(read_events(folder), "joined", "round", "site") == [(2, "south")]
        models.append(load_file(folder / "generic.safetensors"))
        for state in tmp_path.glob("local-*/state/run"):
            shutil.rmtree(state)
    log.removeHandler(caplog.handler)
    assert all(np.array_equal(models[0][key], models[1][key]) for key in models[1])
    assert "personal parts of another run named 'run' are not used" in caplog.text


def write_again(root: Path, index: int, name: str) -> Path:
    """Return the configuration of a site of `flaky_sites` with a copy of its images and its own state."""
    from real_processes import write_site_config

    shutil.copytree(root / "data" / f"hospital-{index}", root / f"again-{index}")
    state = {"state-dir": str(root / f"local-{index}" / "state")}
    return write_site_config(root / f"later-{index}", name, root / f"again-{index}", **state)


def test_a_site_that_has_other_images_now_counts_for_the_fewer(
    flaky_sites: Any, tmp_path: Path, log_text: Callable[[], str]
) -> None:
    """It keeps nobody from resuming, and cannot take more weight than it had."""
    sites, experiment = flaky_sites("north", "south", rounds=2)
    before = of(read_events(run(FlakyGrid(sites, lambda _: True), experiment)), "round", "weights")[0]
    later = [write_again(tmp_path, index, name) for index, name in enumerate(("north", "south"))]
    image = min((tmp_path / "again-1" / "train").rglob("*.png"))
    image.rename(min((tmp_path / "again-0" / "train").iterdir()) / "one-more.png")
    (experiment.run.output_dir / "run" / "checkpoints" / "round-00002.safetensors").unlink()
    folder = run(FlakyGrid(later, lambda _: True), experiment.replace(resume=True))
    after = of(read_events(folder), "round", "weights")[-1]
    assert after == before | {"south": before["south"] - 1}
    recounted = of(read_events(folder), "recounted", "round", "site", "counts_for")
    assert recounted == [(2, "north", before["north"]), (2, "south", before["south"] - 1)]
    assert "it counts for" in log_text()


def test_a_site_set_up_anew_takes_its_place_again(flaky_sites: Any, log_text: Callable[[], str]) -> None:
    """South's node is gone for good; it comes back as another node with the same name and folder."""
    sites, experiment = flaky_sites("north", "south", "west", rounds=4, quorum=0.6)
    sites.append(sites[1])
    grid = FlakyGrid(sites, lambda node: {2: trained() < 2, 4: trained() > 4}.get(node, True))

    def trained() -> int:
        return sum(kind == wire.TRAIN for _, kind in grid.asked)

    events = read_events(run(grid, experiment))
    assert ("south" in of(events, "rejected", "site")) and of(events, "joined", "site") == ["south"]
    assert "south is back in round" in log_text()
    assert of(events, "round", "answered")[-1] == 3


def test_a_late_site_joins_and_one_that_left_is_no_obstacle_to_resuming(
    flaky_sites: Any, log_text: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sites, experiment = flaky_sites("north", "south", "west", "late", sites=3)
    grid = FlakyGrid(sites, lambda node: node < 4 or (2, wire.TRAIN) in grid.asked)
    folder = run(grid, experiment)
    events = read_events(folder)
    assert of(events, "joined", "round", "site") == [(2, "late")]
    assert of(events, "round", "answered") == [3, 4, 4]
    assert "late joins in round 2" in log_text()
    final = next(e for e in events if e["event"] == "personal" and e["stage"] == "final")
    assert sorted(final["sites"]) == ["late", "north", "south", "west"]
    assert "late" in (folder / "report.html").read_text(encoding="utf-8")

    again = experiment.replace(resume=True, sites=2)
    run(FlakyGrid(sites, lambda node: node in (1, 2)), again)
    assert "not there any more: late, west" in log_text()
    known = json.loads((folder / "federation.json").read_text())["site_names"]
    assert known == sorted(json.loads((folder / "sites.json").read_text())) == ["late", "north", "south", "west"]
