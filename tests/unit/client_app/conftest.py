"""A site's files, written by each test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from client_app.site.config import SiteConfig, load_site_config
from common.config import Experiment, build
from common.errors import UserError

CLASSES = ("cat", "dog", "fox")


@pytest.fixture
def error_of() -> Callable[[Callable[[], object]], str]:
    """Return a function: the message of the `UserError` that a call raises, checked to be one line."""

    def message_of(call: Callable[[], object]) -> str:
        with pytest.raises(UserError) as caught:
            call()
        message = str(caught.value)
        assert message.splitlines() == [message]
        return message

    return message_of


@pytest.fixture
def deployed() -> Callable[..., Experiment]:
    """Return a builder of experiments for real sites: classes cat, dog and fox, grey, 8 pixels a side."""

    def make(**changes: Any) -> Experiment:
        values: dict[str, Any] = {
            "partition": "deployed",
            "classes": CLASSES,
            "image-size": 8,
            "method": "fedavg",
            "device": "cpu",
            "width": 4,
            "batch-size": 4,
        }
        return build(values | {key.replace("_", "-"): value for key, value in changes.items()})

    return make


@pytest.fixture
def site_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes keys to `site.yaml`; its data are `data` beside it."""

    def write(**keys: Any) -> Path:
        path = tmp_path / "site.yaml"
        (tmp_path / "data").mkdir(exist_ok=True)
        values = {"name": "west", "data": "data"} | {key.replace("_", "-"): value for key, value in keys.items()}
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    return write


@pytest.fixture
def site(site_file: Callable[..., Path]) -> Callable[..., SiteConfig]:
    """Return a function like `site_file` that returns the configuration."""
    return lambda **keys: load_site_config(site_file(**keys))


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes images of a manifest and the manifest, and returns the data's folder."""

    def write(header: str, *rows: str, **pixels: np.ndarray) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        for i, row in enumerate(rows):
            name = row.split(",")[0]
            if name.endswith(".png"):
                path = folder / name
                path.parent.mkdir(exist_ok=True, parents=True)
                grey = np.full((10, 12), i, np.uint8)
                Image.fromarray(pixels.get(path.stem, grey)).save(path)
        (folder / "manifest.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return folder

    return write
