"""ChestX-ray14 (Wang et al., CVPR 2017, https://arxiv.org/abs/1705.02315): 112,120 X-rays, 14 findings.

In data-dir, as the NIH Clinical Center publishes them: `Data_Entry_2017.csv` (or its correction,
`Data_Entry_2017_v2020.csv`), `train_val_list.txt`, `test_list.txt`, and the images in `images/` or `images_*/images/`.
"""

from pathlib import Path

import numpy as np

from common.config import Experiment
from common.data.sources.dataset import Dataset
from common.data.sources.file_sets import Side, check_patients, file_dataset, find_list, read_lines, read_table
from common.errors import UserError, nearest

DATASETS = {"chestxray14": {"load": "load"}}

# In the order of ChestMNIST's columns.
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"),
    *("Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
_NOTHING = "No Finding"
_PATIENT_DIGITS = 9

Entries = dict[str, tuple[list[int], int]]  # image → (findings, patient)


def load(experiment: Experiment) -> Dataset:
    """Return the X-rays in grey with their official split; patients are the groups.

    Raises:
        UserError: a missing list, a malformed line (file and line), images that are not there, a patient on both
            sides, an unreadable image (most when decoded).
    """
    root = experiment.data.root
    table = find_list(root, "Data_Entry_2017*.csv", "chestxray14")
    entries = _entries(table)
    lists = [find_list(root, name, "chestxray14") for name in ("train_val_list.txt", "test_list.txt")]
    names = [_listed(path, entries, table) for path in lists]
    files = {path.name: path for folder in ("images", "images_*/images") for path in root.glob(f"{folder}/*.png")}
    train, test = (_side(part, entries, files, root) for part in names)
    train_patients, test_patients = (np.array([entries[name][1] for name in part], np.int64) for part in names)
    check_patients(str(root), train_patients, test_patients)
    more = {"train_groups": train_patients, "test_groups": test_patients}
    return file_dataset("chestxray14", FINDINGS, train, test, experiment, channels=1, **more)


def _entries(table: Path) -> Entries:
    found: Entries = {}
    for number, row in read_table(table, _COLUMNS)[1]:
        name, findings, patient = (row[column] for column in _COLUMNS)
        if not name or not patient.isdecimal() or len(patient) > _PATIENT_DIGITS:
            raise UserError(
                f"{table}:{number}: expected an Image Index and a number as Patient ID, found {name!r}, {patient!r}"
            )
        if name in found:
            raise UserError(f"{table}:{number}: image {name!r} a second time; keep one line an image")
        words = findings.split("|")
        if unknown := [word for word in words if word not in (*FINDINGS, _NOTHING)]:
            hint = f"did you mean {near!r}? " if (near := nearest(unknown[0], FINDINGS)) else ""
            raise UserError(
                f"{table}:{number}: unknown finding {unknown[0]!r} in Finding Labels; {hint}an image without "
                f"findings has '{_NOTHING}'"
            )
        found[name] = [FINDINGS.index(word) for word in words if word != _NOTHING], int(patient)
    return found


def _listed(path: Path, entries: Entries, table: Path) -> list[str]:
    lines = read_lines(path)
    for number, name in lines:
        if name not in entries:
            raise UserError(f"{path}:{number}: image {name!r} is not in {table.name}")
    return [name for _, name in lines]


def _side(names: list[str], entries: Entries, files: dict[str, Path], root: Path) -> Side:
    if missing := [name for name in names if name not in files]:
        raise UserError(
            f"chestxray14: {len(missing)} of {len(names)} images of a list are not in {root}/images or "
            f"images_*/images, such as {missing[0]}; unpack the archives there"
        )
    labels = np.zeros((len(names), len(FINDINGS)), np.bool_)
    for row, name in enumerate(names):
        labels[row, entries[name][0]] = True
    return Side([files[name] for name in names], labels)
