"""The cells of a comparison, which results are theirs, and where each one's run is kept.

A run is kept in `runs/<stem>`. Where another configuration, or other data, have left something of that name, it stays,
and a hash of the cell's own is added to its name.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from common.architectures import RUN
from common.config import Experiment, build
from common.config.effects import missing_condition, of_other_methods
from common.config.rows import keys_where
from common.config.values import Values
from common.data import load_dataset
from common.data.images.pretrained import interpolation_of
from common.errors import UserError
from common.files import private_folder, write_text
from common.installed import code_fingerprint
from common.methods import METHODS
from common.models.weights import pin_weights
from server_app.compare.lines import config_hash, stem_of
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
        """Name of the run, e.g. 'fedloge-seed0' or 'fedloge-sparsity-0.8-seed0'."""
        return stem_of(self.experiment.method, self.variant, self.experiment.run.seed)

    def identity(self) -> dict[str, Any]:
        """Return what decides the result: the configuration without what is the machine's."""
        return dict(self._identity)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        experiment = pin_weights(self.experiment)
        return _deciding(experiment.dump(), experiment)

    def deciding(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return, of a configuration of this cell's method, the keys that decide a result."""
        try:
            experiment = build(values)
        except UserError:  # of a version with other keys
            return _of_method(values, self.experiment.method)
        return _deciding(values, experiment)

    @cached_property
    def config_hash(self) -> str:
        """A hash of the configuration and the data, as a stored run has it."""
        return config_hash(self.identity(), data_fingerprint(self.experiment))

    def made(self, result: Mapping[str, Any]) -> bool:
        """Whether a result is of exactly this configuration and data."""
        values = _before_keys(self.experiment) | _written_out(result["experiment"])
        same = self.deciding(values) == self.identity()
        return same and bool(result["data"] == data_fingerprint(self.experiment))


def _of_method(values: Mapping[str, Any], method: str) -> dict[str, Any]:
    hosts = keys_where(lambda facts: facts.resume == "host")  # where, not what: the data itself is fingerprinted
    own = {key: value for key, value in values.items() if key not in hosts and not of_other_methods(key, method)}
    return own | ({"weights": _without_folder(own["weights"])} if "weights" in own else {})


def _without_folder(weights: str) -> str:
    """Return the name of a file of weights, which a hash beside it tells from others: where it lies decides nothing."""
    prefix = RUN if weights.startswith(RUN) else ""
    return prefix + Path(weights.removeprefix(prefix)).name


def _deciding(values: Mapping[str, Any], experiment: Experiment) -> dict[str, Any]:
    """Return, of an experiment's values, those that decide its result; a key without effect has its default."""
    plain, facts = _defaults(experiment.method), Values(experiment)
    kept = _of_method(values, experiment.method)
    idle = {key for key in kept if key in plain and missing_condition(key, experiment, values=facts)}
    return {key: plain[key] if key in idle else value for key, value in kept.items()}


@cache
def _defaults(method: str) -> dict[str, Any]:
    return build({"method": method}).dump()


def own_run_folder(folder: Path, cell: Cell) -> Path:
    """Return the folder of a cell's run, made if absent: one that this code has begun, else one without anything.

    Raises:
        UserError: it cannot be made.
    """
    runs = folder / "runs"
    begun = (path for path in _run_folders(runs, cell) if _has_begun(path, cell))
    path = next(begun, None) or _free_folder(runs, cell)
    if path.name != cell.stem:
        log.info("%s is of another configuration, other data or code, and stays; this one is in %s", cell.stem, path)
    try:
        private_folder(path)
        write_text(path / _CELL, json.dumps({"data": data_fingerprint(cell.experiment)}) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --output") from None
    return path


def data_fingerprint(experiment: Experiment) -> str:
    """Return a short hash over all labels and the first and last images, so that other data are noticed."""
    dataset = load_dataset(experiment)
    digest = hashlib.sha256()
    for images in (dataset.train, dataset.test):
        ends = images.batch(np.array([0, len(images) - 1], dtype=np.int64))
        digest.update(images.labels.astype(np.int64).tobytes() + ends.numpy().tobytes())
    return digest.hexdigest()[:16]


def _run_folders(runs: Path, cell: Cell) -> Iterator[Path]:
    """Yield what folders of runs there are of a cell's name, the plain one first."""
    yield runs / cell.stem
    for path in sorted(runs.glob(f"{cell.stem}-*")):
        if _MARK.fullmatch(path.name.removeprefix(cell.stem)):
            yield path


def _free_folder(runs: Path, cell: Cell) -> Path:
    """Return the first name for a cell's run under which nothing is kept that another one may need."""
    names = (f"{cell.stem}-{cell.config_hash}{f'-{count}' if count else ''}" for count in itertools.count())
    paths = (runs / name for name in itertools.chain([cell.stem], names))
    return next(path for path in paths if not (_holds_something(path) if path.is_dir() else path.exists()))


def _holds_something(run_folder: Path) -> bool:
    """Whether a run has begun there: more than its log."""
    return any((run_folder / name).exists() for name in ("config.json", "metrics.jsonl", "checkpoints", "sites"))


def _before_keys(experiment: Experiment) -> dict[str, Any]:
    """Return what each key meant before there was such a key.

    That is its default; but patients were not kept together, and images were resized bicubic, whatever weights expect.
    """
    values = dict(_defaults(experiment.method))
    same = interpolation_of(experiment) == "bicubic"
    values["interpolation"] = experiment.data.interpolation if same else "bicubic"
    dealt = not missing_condition("keep-patients", experiment.replace(keep_patients=False))
    if dealt and not experiment.data.composites and load_dataset(experiment).train_groups is not None:
        values["keep-patients"] = False
    return values


def _written_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result's configuration with a default that has changed since as it was: the rate of fine-tuning.

    Before there were schedules it was the learning rate, for methods with a frame, too.
    """
    rate, most = values["learning-rate"], METHODS[values["method"]].finetune_rate
    differs = "schedule" not in values and most and rate > most and values["finetune-learning-rate"] is None
    return {**values, "finetune-learning-rate": rate} if differs else dict(values)


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
