"""Keys that are typed: `fednc run … rounds=5 fedloge.frame-norm=3`, and `flwr run . --run-config "…"`."""

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from common.config.experiment import Experiment
from common.config.layout import flatten_typed, leaf
from common.config.reading import APP_ROOT, DEFAULT_CONFIG, load
from common.config.rows import keys_where
from common.config.yaml_files import parse_value
from common.errors import MistakesError, UserError

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
    found, twice = flatten_typed((key, parse_value(text) if text else "") for key, text in pairs)
    if twice:
        raise MistakesError([(source, f"{key} is there twice; give it once") for key in twice])
    return found


def declared_defaults() -> dict[str, Any]:
    """Return what `flwr run` has where nobody gives a value: pyproject.toml's, of this code.

    Raises:
        UserError: this installation has no pyproject.toml.
    """
    for path in (APP_ROOT / "pyproject.toml", APP_ROOT / "server_app" / "project" / "pyproject.toml"):
        if path.is_file():
            found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]
            return found
    raise UserError(f"{APP_ROOT} has no pyproject.toml: install FedNC again")


def everyday_values(experiment: Experiment) -> dict[str, Any]:
    """Return what a run-config says of an experiment that `config` holds: all that `flwr run` has a default for."""
    own = keys_where(lambda facts: facts.everyday and not facts.stays)
    return {key: value for key, value in experiment.dump().items() if key in own}


def not_applied(values: Mapping[str, Any], experiment: Experiment) -> list[str]:
    """Return a line for each everyday key whose value in a run-config is not the run's, see `from_run_config`."""
    declared, found = declared_defaults(), experiment.dump()
    return [
        f"{key} = {found[key]} is the configuration's; for Flower's default add overrides='{key}={value}'"
        for key, value in values.items()
        if key in found and value not in ("", found[key]) and value == declared.get(key)
    ]


def from_run_config(values: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a `flwr run`.

    Flower does not say whether a value was typed or is pyproject.toml's default: a value that is the default does not
    go before what `config` says (see `not_applied`); in `overrides` any value does.

    Args:
        values: Flower's run-config: `config`, `overrides` and the everyday keys.

    Raises:
        UserError: as `load`; a word in `overrides` that is not key=value, or a key in both.
    """
    plain = declared_defaults()
    typed = {key: value for key, value in values.items() if key not in RUN_CONFIG and value not in ("", plain.get(key))}
    try:
        words = shlex.split(str(values.get("overrides", "")))
    except ValueError as error:
        raise MistakesError([("overrides", f"{error}: quote a value with blanks, as in classes='[a, b]'")]) from None
    more = parse_overrides(words, "overrides")
    if twice := sorted(typed.keys() & {leaf(key) for key in more}):
        raise MistakesError(
            [("overrides", f"{key} is given by itself and in overrides; give it once") for key in twice]
        )
    sources = dict.fromkeys(typed, "run-config") | dict.fromkeys(more, "overrides")
    return load(str(values.get("config") or DEFAULT_CONFIG), typed | more, sources=sources)
