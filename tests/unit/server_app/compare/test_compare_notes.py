"""What a comparison says of its images before the first run starts."""

from pathlib import Path

import numpy as np

from common.config import Experiment
from server_app.compare.cells import Cell
from server_app.compare.runner import _data_notes


def test_classes_that_cannot_be_learned_or_measured_are_named(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    path = tmp_path / "x.npz"
    labels = {"y_train": np.arange(40) % 3, "y_test": np.repeat([0, 1, 3, 3], 5)}
    np.savez(path, x_train=pixels[:40], x_test=pixels[40:], class_names=["a", "b", "c", "d", "e"], **labels)
    notes = "\n".join(_data_notes(Cell(Experiment(dataset="npz", data_dir=path, sites=2))))
    assert "no image at all of class 'e'" in notes and "no training image of class 'd'" in notes
    assert "cannot measure 2 classes: 'c', 'e'" in notes
