"""A run of a manifest says where each image is, which classes it cannot measure, and refuses other images on resume."""

import csv
import logging
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trained_runs import TrainedRuns

from common.config import Experiment
from common.data import build_federation
from common.errors import UserError
from server_app.engines.engines import run_local
from server_app.rounds.strategy import FedStrategy
from server_app.run.journal import read_events
from server_app.run.splits import write_assignment

Tiny = Callable[..., Experiment]


def write_images(folder: Path, rows: list[str]) -> None:
    generator = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for i in range(len(rows)):
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{i:02}.png")
    (folder / "manifest.csv").write_text("\n".join(["image,split,patient,label", *rows]))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def small(tmp_path: Path, tiny: Tiny) -> Tiny:
    rows = [
        f"{i:02}.png,{'test' if i > 25 else 'train'},p{i // 2},{'abc'[i % 3] if i < 26 else 'ab'[i % 2]}"
        for i in range(32)
    ]
    write_images(tmp_path / "data", rows)
    plain = {"dataset": "manifest", "head_class_size": None, "imbalance_factor": 1, "sites": 2, "rounds": 1}
    return lambda **keys: tiny(data_dir=tmp_path / "data", **(plain | keys))


def test_a_run_writes_where_each_image_is_and_names_what_it_cannot_measure(
    small: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("fednc").addHandler(caplog.handler)
    folder = run_local(small(method="fedavg"))
    found = rows_of(folder / "splits.csv")
    assert [row["image"] for row in found] == [f"{i:02}.png" for i in range(32)]
    assert {row["split"] for row in found[:26]} == {"train"} and {row["split"] for row in found[26:]} == {"test"}
    made = build_federation(small(method="fedavg"))
    for site, rows in zip(made.site_names, made.train_rows, strict=True):
        assert [int(row["image"][:2]) for row in found[:26] if row["site"] == site] == rows.tolist()
    assert stat.S_IMODE((folder / "splits.csv").stat().st_mode) == 0o600
    said = "not measured, for the test images do not have an image of it: class 'c'"
    assert [record.message for record in caplog.records].count(said) == 2  # at the start and at the end


def test_images_that_the_long_tail_leaves_are_unused(small: Tiny, tmp_path: Path) -> None:
    write_assignment(tmp_path / "run", build_federation(small(head_class_size=4)))
    splits = [row["split"] for row in rows_of(tmp_path / "run" / "splits.csv")]
    assert (splits.count("unused"), splits.count("train"), splits.count("test")) == (14, 12, 6)


def test_other_images_are_refused_when_a_run_is_resumed(small: Tiny, tmp_path: Path) -> None:
    first = build_federation(small())
    write_assignment(tmp_path / "run", first)
    write_assignment(tmp_path / "run", first)
    before = (tmp_path / "run" / "splits.csv").read_text()
    with pytest.raises(UserError, match=r"resume: the images of the run in .* are others"):
        write_assignment(tmp_path / "run", build_federation(small(seed=7)))
    assert (tmp_path / "run" / "splits.csv").read_text() == before


def test_a_start_without_a_checkpoint_binds_the_next_to_no_split(small: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FedStrategy, "sample", interrupt)
        run_local(small(method="fedavg", run_name="new", resume=True))
    path = small().run.output_dir / "new" / "splits.csv"
    first = path.read_text()
    path.write_text(first.replace("site-00", "site-01"))  # as of images that have been put right since
    run_local(small(method="fedavg", run_name="new", resume=True))
    assert path.read_text() == first


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_lost_split_is_named_where_a_run_is_taken_up(small: Tiny, tiny: Tiny, trained: TrainedRuns) -> None:
    folder = run_local(small(method="fedavg", run_name="lost"))
    before = (folder / "splits.csv").read_text()
    (folder / "splits.csv").unlink()
    run_local(small(method="fedavg", run_name="lost", resume=True, rounds=2))
    assert (folder / "splits.csv").read_text() == before
    missing = [event["what"] for event in read_events(folder) if event["event"] == "missing"]
    assert missing == ["splits.csv"] and "splits.csv" in (folder / "report.html").read_text(encoding="utf-8")
    other = trained.copy(method="fedavg", run_name="digits", rounds=1)  # whose images are no files
    run_local(tiny(method="fedavg", run_name="digits", resume=True, rounds=2))
    assert not [event for event in read_events(other) if event["event"] == "missing"]


def test_of_real_sites_and_of_images_without_a_name_nothing_is_written(tiny: Tiny, tmp_path: Path) -> None:
    write_assignment(tmp_path, build_federation(tiny()))
    deployed = tiny(dataset="manifest", partition="deployed", classes=["a", "b"], image_size=8, imbalance_factor=1)
    write_assignment(tmp_path, build_federation(deployed.replace(data_dir=None)))
    assert list(tmp_path.glob("splits*")) == []
