"""The cells of a comparison, and where each one's run and result are kept.

A cell's result is `<stem>.json`, its run is kept in `runs/<stem>`. Where another configuration, or other data, have
left something of that name, it stays, and a hash of the cell's own is added to its name: whoever runs the former
command again finds its results.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.config import Experiment, build
from common.config.effects import missing_condition, of_other_methods
from common.config.rows import keys_where
from common.config.values import Values
from common.data import load_dataset
from common.errors import UserError
from common.files import private_folder, write_text
from common.installed import code_fingerprint
from common.models.weights import pin_weights
from server_app.run.journal import log

_MARK = re.compile(r"-[0-9a-f]{8}(-\d+)?")  # after a stem
_CELL = "cell.json"  # in a run's folder: which data it is of


@dataclass(frozen=True)
class Cell:
    """One run of the table: an experiment with its method and seed set.

    Attributes:
        experiment: what runs.
        variant: the label of a study's variant, or ''.
    """

    experiment: Experiment
    variant: str = ""

    @property
    def stem(self) -> str:
        """File stem of the result, e.g. 'fedloge-seed0' or 'fedloge-sparsity-0.8-seed0'."""
        words = [self.experiment.method, re.sub(r"[^\w.]+", "-", self.variant), f"seed{self.experiment.run.seed}"]
        return "-".join(word for word in words if word)

    def identity(self) -> dict[str, Any]:
        """Return what decides the result: the configuration without what is the machine's."""
        return self.deciding(pin_weights(self.experiment).dump())

    def deciding(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return, of a configuration, the keys that decide this cell's result."""
        hosts = keys_where(lambda facts: facts.resume == "host")  # where, not what: the data itself is fingerprinted
        method = self.experiment.method
        kept = {k: value for k, value in values.items() if k not in hosts and not of_other_methods(k, method)}
        try:
            experiment = build(values)
        except UserError:  # of a version with other keys
            return kept
        plain, facts = build({"method": method}).dump(), Values(experiment)
        idle = {key for key in kept if key in plain and missing_condition(key, experiment, values=facts)}
        return {key: plain[key] if key in idle else value for key, value in kept.items()}

    @property
    def config_hash(self) -> str:
        """A hash of the configuration and the data, for names."""
        facts = json.dumps({"experiment": self.identity(), "data": data_fingerprint(self.experiment)}, sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:8]


def find_result(folder: Path, cell: Cell) -> Path | None:
    """Return the file of a finished run's result, or None if there is none for exactly this configuration and data."""
    return next((path for path in _named(folder, cell.stem, ".json") if _result_of(path, cell) is not None), None)


def read_result(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """Return a finished run's result, or None if there is none for exactly this configuration and data."""
    path = find_result(folder, cell)
    return None if path is None else _result_of(path, cell)


def save_result(folder: Path, cell: Cell, result: Mapping[str, Any]) -> None:
    """Write a cell's result; that of another configuration or other data keeps its name.

    Raises:
        UserError: it cannot be written.
    """
    path = find_result(folder, cell) or _free_path(folder, cell, ".json")
    try:
        write_text(path, json.dumps(result, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); the run's folder stays") from None


def own_run_folder(folder: Path, cell: Cell) -> Path:
    """Return the folder of a cell's run, made if absent: one that this code has begun, else one without anything.

    Raises:
        UserError: it cannot be made.
    """
    runs = folder / "runs"
    begun = (path for path in _named(runs, cell.stem) if _has_begun(path, cell))
    path = next(begun, None) or _free_path(runs, cell)
    if path.name != cell.stem:
        log.info("%s is of another configuration, other data or code, and stays; this one is in %s", cell.stem, path)
    try:
        private_folder(path)
        write_text(path / _CELL, json.dumps({"data": data_fingerprint(cell.experiment)}) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --output") from None
    return path


def stem_of(path: Path) -> str:
    """Return the stem of the cell that a result's file is of."""
    return re.sub(f"{_MARK.pattern}$", "", path.stem)


def data_fingerprint(experiment: Experiment) -> str:
    """Return a short hash over all labels and the first and last images, so that other data are noticed."""
    dataset = load_dataset(experiment)
    digest = hashlib.sha256()
    for images in (dataset.train, dataset.test):
        ends = images.batch(np.array([0, len(images) - 1], dtype=np.int64))
        digest.update(images.labels.astype(np.int64).tobytes() + ends.numpy().tobytes())
    return digest.hexdigest()[:16]


def _named(folder: Path, stem: str, suffix: str = "") -> Iterator[Path]:
    """Yield what there is of a cell's name, the plain one first."""
    yield folder / f"{stem}{suffix}"
    for path in sorted(folder.glob(f"{stem}-*{suffix}")):
        if _MARK.fullmatch(path.name.removesuffix(suffix).removeprefix(stem)):
            yield path


def _free_path(folder: Path, cell: Cell, suffix: str = "") -> Path:
    """Return the first name for a cell under which nothing is kept that another one may need."""
    names = (f"{cell.stem}-{cell.config_hash}{f'-{count}' if count else ''}" for count in itertools.count())
    paths = (folder / f"{name}{suffix}" for name in itertools.chain([cell.stem], names))
    return next(path for path in paths if not (_holds_something(path) if path.is_dir() else path.exists()))


def _holds_something(run_folder: Path) -> bool:
    """Whether a run has begun there: more than its log."""
    return any((run_folder / name).exists() for name in ("config.json", "metrics.jsonl", "checkpoints", "sites"))


def _result_of(path: Path, cell: Cell) -> dict[str, Any] | None:
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        made_with = cell.deciding(_before_keys(cell.experiment) | result["experiment"])
        fits = made_with == cell.identity() and result["data"] == data_fingerprint(cell.experiment)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return result if fits else None


def _before_keys(experiment: Experiment) -> dict[str, Any]:
    """Return what each key meant before there was such a key: its default, but patients were not kept together."""
    values = build({"method": experiment.method}).dump()
    dealt = not missing_condition("keep-patients", experiment.replace(keep_patients=False))
    if dealt and not experiment.data.composites and load_dataset(experiment).train_groups is not None:
        values["keep-patients"] = False
    return values


def _has_begun(run_folder: Path, cell: Cell) -> bool:
    """Whether an interrupted run of this very cell, by this code, can be taken up."""
    try:
        config = json.loads((run_folder / "config.json").read_text(encoding="utf-8"))
        code = json.loads((run_folder / "versions.json").read_text(encoding="utf-8"))["code"]
        same = cell.deciding(config) == cell.identity()
        if (about := run_folder / _CELL).exists():  # not in folders of older versions
            same = same and json.loads(about.read_text(encoding="utf-8"))["data"] == data_fingerprint(cell.experiment)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
    return same and code == code_fingerprint()
