"""Keys that are typed: `fednc run … rounds=5 fedloge.frame-norm=3`, and `flwr run . --run-config "…"`."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from common.config.experiment import Experiment
from common.config.layout import canonical
from common.config.reading import DEFAULT_CONFIG, load
from common.config.rows import keys_where
from common.config.yaml_files import parse_value
from common.errors import MistakesError

RUN_CONFIG = ("config", "overrides")  # what `flwr run` knows beside the everyday keys


def parse_overrides(words: Sequence[str], source: str = "command line") -> dict[str, Any]:
    """Turn ['rounds=200', 'train.momentum=.9'] into values, read as YAML does; `load` looks at the keys.

    Args:
        words: key=value, a key in any form of `common/config/layout.py`.
        source: what errors name.

    Raises:
        UserError: words without '=', or a key twice.

    Example:
        >>> parse_overrides(["rounds=200", "train.momentum=.9", "fedloge.frame-norm=3"])
        {'rounds': 200, 'momentum': 0.9, 'fedloge.frame-norm': 3}
    """
    if wrong := [word for word in words if "=" not in word]:
        raise MistakesError([(source, f"'{word}' is not of the form key=value") for word in wrong])
    pairs = [word.split("=", 1) for word in words]
    keys = [canonical(key) for key, _ in pairs]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise MistakesError([(source, f"{key} is there twice; give it once") for key in twice])
    return {key: parse_value(text) if text else "" for key, (_, text) in zip(keys, pairs, strict=True)}


def everyday_defaults() -> dict[str, Any]:
    """Return the keys that `flwr run` knows by themselves, as the default configuration has them; '' for none."""
    experiment = load(DEFAULT_CONFIG).dump()
    here = keys_where(lambda facts: facts.stays)  # a folder has no value that would be everybody's
    everyday = keys_where(lambda facts: facts.everyday)
    kept = {key: value for key, value in experiment.items() if key in everyday}
    return {
        key: "" if value is None or (key in here and not isinstance(value, bool)) else value
        for key, value in kept.items()
    }


def from_run_config(values: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a `flwr run`.

    Flower does not say whether a value was typed or is pyproject.toml's default: a value that is the default
    configuration's does not go before what `config` says; in `overrides` any value does.

    Args:
        values: Flower's run-config: `config`, `overrides` and the everyday keys.

    Raises:
        UserError: as `load`; a word in `overrides` that is not key=value, or a key in both.
    """
    plain = everyday_defaults()
    typed = {key: value for key, value in values.items() if key not in RUN_CONFIG and value not in ("", plain.get(key))}
    try:
        words = shlex.split(str(values.get("overrides", "")))
    except ValueError as error:
        raise MistakesError([("overrides", f"{error}: quote a value with blanks, as in classes='[a, b]'")]) from None
    more = parse_overrides(words, "overrides")
    if twice := sorted(typed.keys() & more.keys()):
        raise MistakesError([("overrides", f"{key} stands beside them, too; give it once") for key in twice])
    sources = dict.fromkeys(typed, "run-config") | dict.fromkeys(more, "overrides")
    return load(str(values.get("config") or DEFAULT_CONFIG), typed | more, sources=sources)
