"""Real sites' folders, for runs in one process: images of cats and dogs, a manifest, a configuration."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image


def write_site(root: Path, name: str, images: int = 8, **keys: Any) -> dict[str, str]:
    """Write a site whose last two images are for testing; return its node's configuration.

    Args:
        root: where its `NAME.yaml` lies, and its folders unless the keys say otherwise.
        name: the site's.
        images: how many; patients are called smith.
        keys: of the configuration.
    """
    values = {"name": name, "data": name, "state-dir": f"{name}-state", **keys}
    folder = root / values["data"]
    folder.mkdir()
    for i in range(images):
        Image.fromarray(np.full((8, 8), i * 30, np.uint8)).save(folder / f"smith-{i}.png")
    rows = [f"smith-{i}.png,{'test' if i >= images - 2 else 'train'},{('cat', 'dog')[i % 2]}" for i in range(images)]
    (folder / "manifest.csv").write_text("\n".join(["image,split,label", *rows]) + "\n")
    path = root / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return {"site-config": str(path)}
