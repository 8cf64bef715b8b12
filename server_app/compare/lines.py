"""The form of `experiment.yaml` and `runs.jsonl`: what runs share is written once, a line has the rest.

    experiment.yaml  keys in sections
    runs.jsonl       method, variant, seed, config, overrides, data, versions, summary, curves, perhaps more

A run's configuration is that of experiment.yaml with its `overrides`, less the keys that it is `without`, which the
version that ran it did not have. `config` is a hash of it and of the data's fingerprint: it tells results of one name
apart, and whether experiment.yaml is still the one that the line was written with.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from common.config import ROWS, read_yaml
from common.errors import UserError, one_line

EXPERIMENT, RUNS = "experiment.yaml", "runs.jsonl"
_FIRST = f"# What the runs in {RUNS} share"
_ABOUT = f"""\
{_FIRST}: a line there has a run's method, its seed and what else differs from this.
# Written by FedNC, once. The same command, with this folder as --output, goes on; lines build on this file, so
# leave it as it is.
"""
_OWN = ("method", "variant", "seed", "config", "overrides", "without")  # of a line; its other keys are the result's


@dataclass(frozen=True)
class StoredRun:
    """A finished run.

    Attributes:
        variant: the label of a study's variant, or ''.
        result: `experiment` (its keys, flat), `data`, `versions`, `summary`, `curves`, perhaps `prototype_cosine`.
        where: it was read, for messages: a file, and the line in it.
    """

    variant: str
    result: dict[str, Any]
    where: str = field(default="", compare=False)

    @property
    def method(self) -> str:
        """Which method ran."""
        return str(self.result["experiment"]["method"])

    @property
    def seed(self) -> int:
        """With which seed."""
        return int(self.result["experiment"]["seed"])

    @cached_property
    def stem(self) -> str:
        """Its name; a run of another configuration or other data may have the same."""
        return stem_of(self.method, self.variant, self.seed)

    @cached_property
    def config(self) -> str:
        """A hash of its configuration and data."""
        return config_hash(self.result["experiment"], self.result["data"])


def stem_of(method: str, variant: str, seed: int) -> str:
    """Return a run's name, e.g. 'fedloge-seed0' or 'fedloge-sparsity-0.8-seed0'."""
    words = [method, re.sub(r"[^\w.]+", "-", variant), f"seed{seed}"]
    return "-".join(word for word in words if word)


def variant_in(name: str, method: str, seed: int) -> str:
    """Return the variant in a run's name as `stem_of` wrote it there, or ''."""
    words, mark, _ = name.rpartition(f"-seed{seed}")
    return words.removeprefix(method).removeprefix("-") if mark and name.startswith(method) else ""


def config_hash(experiment: Mapping[str, Any], data: str) -> str:
    """Return a short hash of a configuration and the data's fingerprint."""
    facts = json.dumps({"experiment": experiment, "data": data}, sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:8]


# --- experiment.yaml --------------------------------------------------------------------------------


def shared_text(configurations: Sequence[Mapping[str, Any]]) -> str:
    """Return an experiment.yaml: the keys in which these runs agree, but for method, seed and methods' own keys."""
    first, *others = configurations
    blocks: dict[str, Any] = {}
    for key, value in first.items():
        row = ROWS.get(key)
        if row is None or row.methods or key in ("method", "seed"):
            continue
        if all(key in other and _same(other[key], value) for other in others):
            (blocks.setdefault(row.section, {}) if row.section else blocks)[key] = value
    return _ABOUT + yaml.safe_dump(blocks, sort_keys=False, allow_unicode=True)


def check_own(folder: Path) -> None:
    """Raise `UserError` where a folder's experiment.yaml is someone's own file."""
    if not (folder / EXPERIMENT).read_text(encoding="utf-8", errors="replace").startswith(_FIRST):
        raise UserError(f"{folder / EXPERIMENT} is there, and is no comparison's: choose another --output")


def read_shared(folder: Path) -> dict[str, Any]:
    """Return the keys of a folder's experiment.yaml, flat.

    Raises:
        UserError: it is not there, or cannot be read.
    """
    if not (folder / EXPERIMENT).exists():
        raise changed(folder, "is gone")
    flat: dict[str, Any] = {}
    for key, value in read_yaml(folder / EXPERIMENT).items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat


def changed(folder: Path, how: str) -> UserError:
    """Return the error for an experiment.yaml that lines do not go with."""
    words = f"{RUNS} builds on it; put it back as it was, take such lines out, or choose another --output"
    return UserError(f"{folder / EXPERIMENT} {how}: {words}")


# --- runs.jsonl -------------------------------------------------------------------------------------


class _Line(BaseModel):
    """What every line has; other keys may be there."""

    model_config = ConfigDict(extra="allow", strict=True)
    method: str
    variant: str
    seed: int
    config: str
    overrides: dict[str, Any]
    without: list[str] = []
    data: str
    summary: dict[str, Any]
    curves: dict[str, Any]


def line_of(run: StoredRun, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's line.

    Args:
        run: to be written.
        shared: see `read_shared`.

    Raises:
        ValueError: it is no result of a run.
    """
    experiment = run.result["experiment"]
    said = {key for key, value in shared.items() if key in experiment and _same(experiment[key], value)}
    line = {"method": experiment["method"], "variant": run.variant, "seed": experiment["seed"], "config": run.config}
    line["overrides"] = {k: v for k, v in experiment.items() if k not in said and k not in ("method", "seed")}
    if without := [key for key in shared if key not in experiment]:
        line["without"] = without
    line |= {key: value for key, value in run.result.items() if key != "experiment"}
    _Line.model_validate(line)
    return line


def run_of(line: Mapping[str, Any], shared: Mapping[str, Any]) -> StoredRun:
    """Return the run that `line_of` made a line of."""
    kept = {key: value for key, value in shared.items() if key not in line.get("without", ())}
    experiment = {"method": line["method"], "seed": line["seed"], **kept, **line["overrides"]}
    result = {"experiment": experiment, **{key: value for key, value in line.items() if key not in _OWN}}
    return StoredRun(line["variant"], result)


def parse_line(text: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return a line's keys, None where it is no run, and what is wrong with it, if anything."""
    if not text.strip():
        return None, ""
    try:
        line: dict[str, Any] = json.loads(text)
        _Line.model_validate(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        return None, one_line(f"{where}: {str(first['msg']).removeprefix('Input ').lower()}", 100)
    except (ValueError, RecursionError):
        return None, "no JSON"
    return line, ""


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)  # 1, 1.0 and true are not
