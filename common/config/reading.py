"""Reading the experiment of `common/config/experiment.py`, with errors for people.

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
from typing import Any

from common.config.consistency import contradictions
from common.config.effects import missing_condition, no_effect_message
from common.config.experiment import Experiment
from common.config.layout import flatten, flatten_typed, leaf, merged, validated
from common.config.rows import MIXED_KEYS, PATH_KEYS, ROWS, keys_where
from common.config.values import UnknownValueError, Values
from common.config.yaml_files import read_yaml
from common.errors import MistakesError, UserError, did_you_mean, nearest, short_repr, unknown
from common.methods import METHODS
from common.paths import expand

APP_ROOT = Path(__file__).resolve().parents[2]  # holds configs/ beside the three packages
DEFAULT_CONFIG = "configs/digits_lt.yaml"


@dataclass(frozen=True)
class _Layer:
    """Keys that one source gives.

    Attributes:
        source: as errors name it.
        values: flat, see `common/config/layout.py`.
        unknown: words about keys that there are not.
    """

    source: str
    values: dict[str, Any]
    unknown: tuple[str, ...] = ()


def _layer(source: str, values: Mapping[str, Any], written: bool = False) -> _Layer:
    """Return the keys of one source; in what people wrote an empty string is no value."""
    flat, found = flatten(values)
    flat = {key: value for key, value in flat.items() if value != "" or not written}
    return _Layer(source, flat, tuple(words for _, words in found))


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
            `missing_condition` of `common/config/effects.py`.

    Raises:
        UserError: unknown keys, impossible values, contradictions, keys without effect; missing or malformed file.
    """
    path = find_config(config, base)
    stem = re.sub(r"[^\w.-]", "-", path.stem).lstrip(".-")[:64]
    where = "command line" if base else "run-config"
    typed, twice = flatten_typed((overrides or {}).items())
    typed = {key: value for key, value in typed.items() if value != "" or not _known(key)}
    layers, found = _file_layers(path, str(config), typed.get("method"))
    found += [(where, f"{key} is there twice; give it once") for key in twice]
    layers[0].values.setdefault("name", stem or "experiment")
    for key, value in sorted(typed.items(), key=lambda pair: "." in pair[0]):  # one method's after all methods'
        layers.append(_layer((sources or {}).get(key, where), {key: value}, written=True))
    for i, layer in enumerate(layers):
        found += _absolute(layer, path.parent if i < 2 else base)
    if not _resolved(layers[0].values):  # it holds keys that act with others alone
        found += _ineffective_in_file(layers[0])  # an override may make them idle
    if single:
        found += _ineffective_typed(layers[2:], layers)
    return _build(layers, found)


def build(values: Mapping[str, Any], source: str = "the experiment") -> Experiment:
    """Validate keys in any form of `common/config/layout.py`.

    Args:
        values: key → value.
        source: what errors name.

    Raises:
        UserError: of each mistake key, value, what is allowed or the nearest known key.

    Example:
        >>> build({"method": "fedprox", "train": {"learning-rate": 0.1}, "rounds": 5}).train.learning_rate
        0.1
    """
    return _build([_layer(source, values)], [])


def _build(layers: Sequence[_Layer], found: list[tuple[str, str]]) -> Experiment:
    """Validate layers, later ones win; raise `UserError` with all mistakes, these first ones too."""
    bad: set[str] = set()
    for layer in layers:
        found += [(layer.source, words) for words in layer.unknown]
        for key, words in validated(layer.values)[1]:
            found.append((layer.source, words))
            bad.add(leaf(key))
    experiment = _experiment(layers)
    for key, words in contradictions(Values(experiment, bad)):
        # that of the source with which it comes up
        until = (
            i for i in range(1, len(layers)) if (key, words) in contradictions(Values(_experiment(layers[:i]), bad))
        )
        found.append((layers[next(until, len(layers)) - 1].source, words))
    if found:
        place = {layer.source: i for i, layer in enumerate(layers)}
        raise MistakesError(sorted(found, key=lambda pair: place.get(pair[0], 1)))
    return experiment


def _experiment(layers: Sequence[_Layer]) -> Experiment:
    """Return the experiment of layers, later ones win, without what is wrong with a key by itself."""
    return Experiment.of_parts(validated(merged(layer.values for layer in layers))[0])


def _ineffective_in_file(file: _Layer) -> list[tuple[str, str]]:
    """Return a mistake for each key of a file that changes nothing, whichever of its methods runs."""
    bad = {leaf(key) for key, _ in validated(file.values)[1]}
    if "method" in bad:
        return []
    own = _experiment([file]).method
    named = [own, *sorted({key.partition(".")[0] for key in file.values if "." in key} - {own})]
    found = []
    for key, value in file.values.items():
        row = ROWS[leaf(key)]
        methods = [key.partition(".")[0]] if "." in key else list(row.methods) or named
        if row.acts.elsewhere or row.name in bad:
            continue
        needed = []
        with suppress(UnknownValueError):
            for method in methods:
                experiment = _experiment([file, _Layer("", {"method": method})])
                values = Values(experiment, bad)
                contradicted = row.name in {name for name, _ in contradictions(values)}
                needed.append("" if contradicted else missing_condition(key, experiment, True, values))
            if all(needed):
                found.append((file.source, no_effect_message(key, value, needed[0])))
    return found


def _ineffective_typed(typed: Sequence[_Layer], layers: Sequence[_Layer]) -> list[tuple[str, str]]:
    """Return a mistake for each typed key that changes nothing in the experiment of all the layers."""
    bad = {leaf(key) for layer in layers for key, _ in validated(layer.values)[1]}
    if "method" in bad:
        return []
    experiment = _experiment(layers)
    values, found = Values(experiment, bad), []
    skipped = bad | {key for key, _ in contradictions(values)}
    for source, key, value in ((layer.source, *pair) for layer in typed for pair in layer.values.items()):
        row = ROWS[leaf(key)]
        if row.name in skipped or (not experiment.has(row.name) and value == row.default):
            continue  # the default is no wish
        with suppress(UnknownValueError):
            if needed := missing_condition(key, experiment, values=values):
                found.append((source, no_effect_message(key, value, needed)))
    return found


def _known(key: str) -> bool:
    """Whether there is such a key, however it is written."""
    return not flatten({key: ""})[1]


def _resolved(values: Mapping[str, Any]) -> bool:
    """Whether a file holds every key that an experiment has: it was written by this program."""
    return {name for name, row in ROWS.items() if not row.methods} <= values.keys()


def portable(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flat configuration as it may be handed on: without what is of the machine, or the start, it ran on."""
    own = keys_where(lambda facts: facts.stays)
    found = {key: value for key, value in experiment.items() if key not in own}
    for key, rule in MIXED_KEYS.items():
        if isinstance(text := found.get(key), str) and text not in rule.words:
            prefix = rule.prefix if text.startswith(rule.prefix) else ""
            found[key] = prefix + Path(text.removeprefix(prefix)).name
    return found


def check_key(key: str, value: Any, source: str) -> None:
    """Raise `UserError` for a key that no experiment has: names key, value and the nearest known key."""
    if found := flatten({key: value})[1]:
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
    return merged([own.values, tuned.values])


def _file_layers(path: Path, source: str, method: str | None) -> tuple[list[_Layer], list[tuple[str, str]]]:
    """Return the file's own keys and those under `tuned` for the method, and the mistakes of the whole `tuned`."""
    values = read_yaml(path)
    tuned = {} if values.get("tuned", {}) is None else values.get("tuned", {})
    values.pop("tuned", None)
    where = f"{source}: tuned"
    own = _layer(source, values, written=True)
    form = "give a method's keys below its name, e.g. tuned: {fedavg: {learning-rate: 0.1}}"
    if not isinstance(tuned, dict):
        return [own, _Layer(where, {})], [(where, form)]
    found: list[tuple[str, str]] = []
    blocks: dict[str, _Layer] = {}
    for name, keys in tuned.items():
        of = f"{where}: {name}"
        if name not in METHODS:
            found.append((where, str(unknown("method", str(name), METHODS))))
        elif keys is not None and not isinstance(keys, dict):
            found.append((of, f"{short_repr(keys)}: {form}"))
        else:
            blocks[name] = _layer(of, keys or {}, written=True)
            found += [(of, words) for words in _tuned_mistakes(name, blocks[name])]
    chosen = method or own.values.get("method", Experiment.default("method"))
    block = blocks.get(chosen) if isinstance(chosen, str) else None
    return [own, _Layer(f"{where}: {chosen}", block.values if block else {})], found


def _tuned_mistakes(method: str, layer: _Layer) -> list[str]:
    """Return what is wrong with a method's block under `tuned`."""
    found = [*layer.unknown, *(words for _, words in validated(layer.values)[1])]
    for key, value in layer.values.items():
        row = ROWS[leaf(key)]
        if not row.facts.tunable:
            found.append(f"{key} is the experiment's, the same for all methods")
        elif (readers := row.acts.methods) and (method not in readers or key not in (row.name, f"{method}.{row.name}")):
            found.append(no_effect_message(key, value, f"method: {' or '.join(readers)}"))
    return found


def _absolute(layer: _Layer, base: Path | None) -> list[tuple[str, str]]:
    """Make a layer's folders absolute, in place; return the mistakes, whose keys are then left out."""
    found = []
    for key in (*PATH_KEYS, *MIXED_KEYS):
        if not isinstance(value := layer.values.get(key), str | Path):
            continue
        try:
            layer.values[key] = _absolute_text(key, value, base) if key in MIXED_KEYS else _path(key, value, base)
        except UserError as error:
            found.append((layer.source, str(error)))
            del layer.values[key]
    return found


def _absolute_text(key: str, value: str | Path, base: Path | None) -> str:
    """Return the text of a key that may name a path: that path absolute, a word as it is."""
    text, rule = str(value), MIXED_KEYS[key]
    if text in rule.words:
        return text
    prefix = rule.prefix if text.startswith(rule.prefix) else ""
    return f"{prefix}{_path(key, text.removeprefix(prefix), base)}"


def _path(key: str, value: str | Path, base: Path | None) -> Path:
    path = expand(value, key)
    if not path.is_absolute() and base is None:
        why = "a Flower run does not know your folder; give an absolute path"
        raise UserError(f"{key} = {str(value)!r}: {why}")
    return ((base or Path()) / path).resolve()
