"""What a loader notes about the images: said at the start of a run, kept in its folder, counted in its report."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.config import Experiment
from server_app.engines.engines import run_local

Tiny = Callable[..., Experiment]


def test_a_run_says_what_was_skipped_and_left_out(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for side in ("train", "test"):
        for i in range(24):
            path = tmp_path / "images" / side / ("cat", "dog")[i % 2] / f"IM{i:02}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path, "PNG")
    images = tmp_path / "images"
    (images / "train/cat/.DS_Store").write_bytes(b"x")
    (images / "train/cat/bad.png").write_bytes(b"no image")
    keys = {"dataset": "image-folder", "data_dir": images, "image_size": 8, "skip_bad_images": 1, "rounds": 1}
    folder = run_local(tiny(**keys, sites=2, head_class_size=None, imbalance_factor=1))
    notes = json.loads((folder / "federation.json").read_text())["notes"]
    assert len(notes) == 2
    assert notes[0] == "1 file skipped: 1 hidden (train/cat/.DS_Store)"
    assert notes[1].startswith("1 image is left out, as it cannot be read (skip-bad-images: 1): train/cat/bad.png: ")
    out, report = capsys.readouterr().out, (folder / "report.html").read_text()
    for note in notes:
        assert f"image-folder: {note}" in out and note not in report
    assert "There are 2 notes about the images" in report and "IM00" not in report and "bad.png" not in report
