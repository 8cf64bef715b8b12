"""What a site's engineer has: images of handwritten digits, `site.yaml`, and the coordinator's experiment."""

from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from sklearn.datasets import load_digits

CLASSES = ("zero", "one", "two")


def write_site(folder: Path) -> tuple[Path, Path]:
    """Write a site of three classes and an experiment for it; return the paths of their YAML files."""
    digits = load_digits()
    for row in np.flatnonzero(digits.target < len(CLASSES))[:90].tolist():
        path = folder / "images" / ("test" if row % 4 == 0 else "train") / CLASSES[digits.target[row]] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[row] * 15.9).astype(np.uint8)).save(path)
    site, experiment = folder / "site.yaml", folder / "pilot.yaml"
    site.write_text(yaml.safe_dump({"name": "hospital-1", "data": "images"}), encoding="utf-8")
    keys = {
        **{"dataset": "image-folder", "partition": "deployed", "classes": list(CLASSES), "image-size": 8},
        **{"data-dir": "/data", "output-dir": "/results", "backbone": "cnn", "width": 4},
    }
    experiment.write_text(yaml.safe_dump(keys), encoding="utf-8")
    return site, experiment
