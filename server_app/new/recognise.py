"""Which of the loaders in `common/data` a folder or file of images is for, and the keys that this loader needs."""

from pathlib import Path
from typing import Any

from common.data.sources.archive import Archive
from common.data.sources.manifest_header import TABLES
from common.errors import UserError

# Layouts of published data sets, by a file or folder that only they have.
_PUBLISHED = (
    ("ImageNet_LT_train.txt", "imagenet-lt"),
    ("*/ImageNet_LT_train.txt", "imagenet-lt"),
    ("federated_train*.csv", "inaturalist"),
    ("*/federated_train*.csv", "inaturalist"),
    ("Data_Entry_2017*.csv", "chestxray14"),
    ("annotations/instances_train2017.json", "coco2017"),
    ("VOCdevkit/VOC2012", "voc2012"),
    ("VOC2012/ImageSets", "voc2012"),
    ("ImageSets/Main", "voc2012"),
)
_SITE_ARRAYS = ("site", "center", "centre", "hospital", "institution", "client")
_GROUP_ARRAYS = ("patient", "patient_id", "subject", "case", "lesion", "lesion_id", "group")


def recognise(data: Path) -> dict[str, Any]:
    """Return the keys of an experiment that find these images: `dataset`, `data-dir`, and of an archive its arrays'.

    Args:
        data: a CSV, an .npz archive, or a folder: with `manifest.csv`, one archive, a published data set, or class
            folders.

    Raises:
        UserError: nothing of this is there; says what is, and what is expected.
    """
    data = data.expanduser().resolve()
    if not data.exists():
        raise UserError(f"{data}: there is no such file or folder")
    found = _file(data) if data.is_file() else _folder(data)
    return {"dataset": found["dataset"], "data-dir": str(data), **found}


def _file(path: Path) -> dict[str, Any]:
    if path.suffix.lower() == ".npz":
        return {"dataset": "npz", **_arrays(path)}
    if path.suffix.lower() in TABLES:
        return {"dataset": "manifest"}
    raise UserError(
        f"{path}: give a folder of images, a CSV that lists them, or an .npz archive; this is none of the three"
    )


def _folder(root: Path) -> dict[str, Any]:
    if (root / "manifest.csv").is_file():
        return {"dataset": "manifest"}
    for pattern, name in _PUBLISHED:
        if next(root.glob(pattern), None):
            return {"dataset": name}
    visible = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    if len(archives := [path for path in visible if path.suffix.lower() == ".npz"]) == 1:
        return {"dataset": "npz", "data-dir": str(archives[0]), **_arrays(archives[0])}
    if any(path.is_dir() for path in visible):
        return {"dataset": "image-folder"}
    if len(tables := [path for path in visible if path.suffix.lower() in TABLES]) == 1:
        return {"dataset": "manifest", "data-dir": str(tables[0])}
    several = [path.name for path in (*archives, *tables)]
    choice = f"; it holds {', '.join(several)}: name one of them" if several else ""
    raise UserError(
        f"{root}: no class folders, no manifest.csv and no archive{choice}. Put the images of each class into a folder "
        "of its name, or list them in a CSV with the columns image and label"
    )


def _arrays(path: Path) -> dict[str, Any]:
    """Return which of an archive's arrays name sites and patients, by their names."""
    archive = Archive(path)

    def first(names: tuple[str, ...]) -> str | None:
        return next((name for name in names if name in archive or f"{name}_train" in archive), None)

    keys = {"site-key": first(_SITE_ARRAYS), "group-key": first(_GROUP_ARRAYS)}
    return {key: name for key, name in keys.items() if name}
