"""Pascal VOC 2012 (Everingham et al., IJCV 2015, https://doi.org/10.1007/s11263-014-0733-5): photographs, 20 labels.

data-dir holds `VOCdevkit/VOC2012`, or `VOC2012`, or is that folder: `ImageSets/Main/<class>_train.txt` and
`<class>_val.txt`, images in `JPEGImages/`. The official test labels are not published, so `val` is the test set.
"""

from pathlib import Path

import numpy as np

from common.config import Experiment
from common.data.sources.dataset import Dataset
from common.data.sources.file_sets import Side, file_dataset, inside, read_lines
from common.errors import UserError

DATASETS = {"voc2012": {"load": "load"}}

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_MARKS = {"1": True, "0": True, "-1": False}


def load(experiment: Experiment) -> Dataset:
    """Return the photographs; they differ in size, so `image-size` is needed.

    A mark of 0 (every object of that class is difficult to see) counts as the label, as ML-GCN and the papers after
    it train (Chen et al., CVPR 2019, https://arxiv.org/abs/1904.03582). VOC's own evaluation leaves such an image out
    of that class's metric; ours does not.

    Raises:
        UserError: a missing list, a malformed line (file and line), lists that differ in their images, an unreadable
            image (most when decoded).
    """
    folders = [experiment.data.root / below for below in ("VOCdevkit/VOC2012", "VOC2012", ".")]
    root = next((folder for folder in folders if (folder / "ImageSets" / "Main").is_dir()), None)
    if root is None:
        raise UserError(
            f"voc2012: no VOCdevkit/VOC2012/ImageSets/Main in {experiment.data.root}; set data-dir to the folder that "
            "holds VOCdevkit"
        )
    train, test = (_side(root, part) for part in ("train", "val"))
    return file_dataset("voc2012", CLASSES, train, test, experiment, channels=3)


def _side(root: Path, part: str) -> Side:
    first, columns = _marks(root, CLASSES[0], part), []
    for word in CLASSES:
        rows = _marks(root, word, part)
        for (place, name, _), (there, expected, _) in zip(rows, first, strict=False):
            if name != expected:
                raise UserError(f"{place}: image '{name}', where {there} has '{expected}'")
        if len(rows) != len(first):
            raise UserError(f"{rows[-1][0]}: the list ends after {len(rows)} images, {first[-1][0]} after {len(first)}")
        columns.append([mark for _, _, mark in rows])
    paths = [root / "JPEGImages" / f"{name}.jpg" for _, name, _ in first]
    return Side(paths, np.array(columns, np.bool_).T)


def _marks(root: Path, word: str, part: str) -> list[tuple[str, str, bool]]:
    """Return (place, image, whether it has the label) of each line."""
    listed = root / "ImageSets" / "Main" / f"{word}_{part}.txt"
    found = []
    for number, line in read_lines(listed):
        fields = line.split()
        if len(fields) != 2 or fields[1] not in _MARKS or inside(root, fields[0]) is None:
            raise UserError(f"{listed}:{number}: expected 'image mark', a mark being 1, 0 or -1, found '{line}'")
        found.append((f"{listed}:{number}", fields[0], _MARKS[fields[1]]))
    return found
