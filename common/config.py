"""Reading the experiment of `common/experiment.py`, with errors for people.

Sources, later ones win: its defaults, a YAML file in `configs/`, what that file has under `tuned` for the
experiment's method, flat `key=value` overrides
(`flwr run . --run-config "rounds=200 seed=1"` or `fednc run … rounds=200 seed=1`). Every unknown key, impossible
value, contradiction and key without effect is named at once, with the source that it stands in.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from common.checked import Mistake, unknown_keys, valid_fields
from common.consistency import UnknownValueError, contradictions, partial
from common.effects import ACTS, METHOD_KEYS, idle, without_effect
from common.errors import MistakesError, UserError, did_you_mean, nearest, shown, unknown
from common.experiment import FIELDS_ALONE, KEYS, Experiment
from common.fields import FEDERATION_FIELDS
from common.methods import METHODS
from common.paths import expand
from common.yaml_files import given, parse_value, read_yaml

__all__ = [
    "APP_ROOT",
    "DEFAULT_CONFIG",
    "KEYS",
    "PATH_KEYS",
    "Experiment",
    "acting",
    "build",
    "check_key",
    "find_config",
    "load",
    "parse_value",
    "portable",
    "read_experiment",
    "read_yaml",
]

APP_ROOT = Path(__file__).resolve().parent.parent  # holds configs/ beside the three packages
DEFAULT_CONFIG = "configs/digits_lt.yaml"
PATH_KEYS = tuple(  # where things are on one machine
    name.replace("_", "-")
    for name, field in Experiment.model_fields.items()
    if Path in {field.annotation, *get_args(field.annotation)}
)
_OF_ONE_START = ("run-name", "resume")  # the folder of a run, and to go on with what is in it
_UNTUNED = {  # what methods are compared under
    *(name.replace("_", "-") for name in FEDERATION_FIELDS),
    *("name", "method", "rounds", "local-epochs", "participation", "classes", "labels"),
    *PATH_KEYS,
    *_OF_ONE_START,
    "image-memory",
}


@dataclass(frozen=True)
class _Layer:
    """Keys that one source gives.

    Attributes:
        source: as errors name it.
        values: key → value.
    """

    source: str
    values: dict[str, Any]


def load(
    config: str | Path = DEFAULT_CONFIG,
    overrides: Mapping[str, Any] | None = None,
    base: Path | None = None,
    sources: Mapping[str, str] | None = None,
    single: bool = True,
) -> Experiment:
    """Read a YAML file, apply overrides and return the validated experiment with absolute paths.

    Args:
        config: path of the YAML; a relative one is looked up below `base`, then beside the packages.
        overrides: flat keys; an empty string means "not given" (Flower's run-config needs a value).
        base: the folder that relative paths start from, normally the user's; None where nobody knows
            it (inside a Flower run): a relative path in an override is then an error.
        sources: what errors name for an override; default: the command line, or the run-config of a Flower run.
        single: whether this is all that runs, so that every override must act in it; of several experiments, see
            `without_effect` of `common/effects.py`.

    Raises:
        UserError: unknown keys, impossible values, contradictions, keys without effect; missing or malformed file.
    """
    path = find_config(config, base)
    stem = re.sub(r"[^\w.-]", "-", path.stem).lstrip(".-")[:64]
    typed = given(overrides or {}, KEYS)
    where = "command line" if base else "run-config"
    layers, found = _file_layers(path, str(config), typed.get("method"))
    layers[0].values.setdefault("name", stem or "experiment")
    for key, value in typed.items():
        layers.append(_Layer((sources or {}).get(key, where), {key: value}))
    for i, layer in enumerate(layers):
        found += _absolute(layer, path.parent if i < 2 else base)
    if not set(KEYS) <= layers[0].values.keys():  # a resolved experiment holds keys that its method does not read
        found += _without_effect(layers[:1], layers[:1], whatever_method=True)  # an override may make them idle
    if single:
        found += _without_effect(layers[2:], layers)
    return _build(layers, found)


def build(values: Mapping[str, Any], source: str = "the experiment") -> Experiment:
    """Validate a flat mapping; raise `UserError` naming key, value, what is allowed, nearest key, of each mistake."""
    return _build([_Layer(source, dict(values))], [])


def acting(values: Mapping[str, Any], experiment: Experiment) -> dict[str, Any]:
    """Return the values that change something in the experiment they are of, whatever the method."""
    return {k: v for k, v in values.items() if k not in ACTS or not without_effect(k, experiment, whatever_method=True)}


def _build(layers: Sequence[_Layer], found: list[tuple[str, str]]) -> Experiment:
    """Validate layers, later ones win; raise `UserError` with all mistakes, these first ones too."""
    bad: set[str] = set()
    for layer in layers:
        for key, words in _field_mistakes(layer.values):
            found.append((layer.source, words))
            bad.add(key)
    for key, words in contradictions(partial(_fields(layers), bad)):
        # that of the source with which it comes up
        until = (i for i in range(1, len(layers)) if (key, words) in contradictions(partial(_fields(layers[:i]), bad)))
        found.append((layers[next(until, len(layers)) - 1].source, words))
    if found:
        place = {layer.source: i for i, layer in enumerate(layers)}
        raise MistakesError(sorted(found, key=lambda pair: place.get(pair[0], 1)))
    return _fields(layers)


def _field_mistakes(values: Mapping[str, Any]) -> list[Mistake]:
    """Return what is wrong with each key by itself."""
    known = {key: value for key, value in values.items() if key in KEYS}
    return unknown_keys(values, KEYS) + valid_fields(Experiment, known, FIELDS_ALONE)[1]


def _fields(layers: Sequence[_Layer]) -> Experiment:
    """Return the experiment of layers, later ones win, without what is wrong with a key by itself."""
    values = {key: value for layer in layers for key, value in layer.values.items() if key in KEYS}
    experiment, _ = valid_fields(Experiment, values, FIELDS_ALONE)
    assert experiment is not None  # every key has a default
    return experiment


def _without_effect(
    of: Sequence[_Layer], layers: Sequence[_Layer], whatever_method: bool = False
) -> list[tuple[str, str]]:
    """Return a mistake for each key of some layers that changes nothing in the experiment of all the layers."""
    bad = {key for layer in layers for key, _ in _field_mistakes(layer.values)}
    experiment, found = partial(_fields(layers), bad), []
    named = {key for key, _ in contradictions(experiment)}
    for source, key, value in ((layer.source, *pair) for layer in of for pair in layer.values.items()):
        if key not in ACTS or key in named or (whatever_method and ACTS[key].elsewhere):
            continue
        with suppress(UnknownValueError):
            if needed := without_effect(key, experiment, whatever_method):
                found.append((source, idle(key, value, needed)))
    return found


def portable(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as it may be handed on: without keys that name a folder of the machine it ran on."""
    return {key: value for key, value in experiment.items() if key not in (*PATH_KEYS, *_OF_ONE_START)}


def check_key(key: str, value: Any, source: str) -> None:
    """Raise `UserError` for a key that no experiment has: names key, value and the nearest known key."""
    if found := unknown_keys({key: value}, KEYS):
        raise UserError(f"{source}: {found[0][1]}")


def find_config(config: str | Path, base: Path | None) -> Path:
    """Return the YAML's absolute path; raise `UserError` that lists the shipped ones if there is none."""
    wanted = expand(config, "config")
    roots = ([base] if base else []) + [APP_ROOT, APP_ROOT / "common"]
    tried = [wanted] if wanted.is_absolute() else [root / wanted for root in roots]
    for path in tried:
        if path.is_file():
            return path.resolve()
    shipped = sorted(f"configs/{p.name}" for root in roots for p in (root / "configs").glob("*.yaml"))
    near = did_you_mean(nearest(str(config), shipped))
    raise UserError(f"no configuration file {str(config)!r}: {near}shipped: {', '.join(dict.fromkeys(shipped))}")


def read_experiment(path: Path, method: str | None = None) -> dict[str, Any]:
    """Return the file's keys, after them those under its `tuned` for the method; default: the file's own.

    A fair comparison gives each method the values that `fednc tune` chose for it, e.g.
    `tuned: {fedavg: {learning-rate: 0.1}}`.

    Raises:
        UserError: as `read_yaml`; under `tuned` an unknown method or key, or what is no mapping.
    """
    (own, tuned), found = _file_layers(path, str(path), method)
    if found:
        raise MistakesError(found)
    return own.values | tuned.values


def _file_layers(path: Path, source: str, method: str | None) -> tuple[list[_Layer], list[tuple[str, str]]]:
    """Return the file's own keys and those under `tuned` for the method, and the mistakes of the whole `tuned`."""
    values = given(read_yaml(path), KEYS)
    tuned = values.pop("tuned", {})
    where = f"{source}: tuned"
    own, chosen = _Layer(source, values), method or values.get("method", Experiment.default("method"))
    form = "give a method's keys below its name, e.g. tuned: {fedavg: {learning-rate: 0.1}}"
    if not isinstance(tuned, dict):
        return [own, _Layer(where, {})], [(where, form)]
    found: list[tuple[str, str]] = []
    for name, keys in tuned.items():
        if name not in METHODS:
            found.append((where, str(unknown("method", str(name), METHODS))))
            continue
        of = f"{where}: {name}"
        if not isinstance(keys, dict):
            found.append((of, f"{shown(keys)}: {form}"))
            continue
        found += [(of, words) for _, words in _field_mistakes(given(keys, KEYS))]
        for key in keys:
            if key in _UNTUNED:
                found.append((of, f"{key} is the experiment's, the same for all methods"))
            elif key in METHOD_KEYS and name not in METHOD_KEYS[key]:
                found.append((of, idle(key, keys[key], f"method: {' or '.join(METHOD_KEYS[key])}")))
    block = tuned.get(chosen, {}) if isinstance(chosen, str) else {}
    block = block if isinstance(block, dict) else {}
    return [own, _Layer(f"{where}: {chosen}", given(block, KEYS))], found


def _absolute(layer: _Layer, base: Path | None) -> list[tuple[str, str]]:
    """Make a layer's folders absolute, in place; return the mistakes, whose keys are then left out."""
    found = []
    for key in PATH_KEYS:
        if not isinstance(value := layer.values.get(key), str | Path):
            continue
        try:
            path = expand(value, key)
            if not path.is_absolute() and base is None:
                why = "a Flower run does not know your folder; give an absolute path"
                raise UserError(f"{key} = {str(value)!r}: {why}")
            layer.values[key] = ((base or Path()) / path).resolve()
        except UserError as error:
            found.append((layer.source, str(error)))
            del layer.values[key]
    return found
