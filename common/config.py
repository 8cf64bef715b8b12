"""Reading the experiment of `common/experiment.py`, with errors for people.

Sources, later ones win: its defaults, a YAML file in `configs/`, what that file has under `tuned` for the
experiment's method, flat `key=value` overrides
(`flwr run . --run-config "rounds=200 seed=1"` or `fednc run … rounds=200 seed=1`). An unknown key or an
impossible value is a one-line `UserError`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from common.errors import UserError, nearest, shown, unknown
from common.experiment import KEYS, Experiment, did_you_mean
from common.fields import FEDERATION_FIELDS
from common.methods import METHODS
from common.paths import expand

__all__ = [
    "APP_ROOT",
    "DEFAULT_CONFIG",
    "KEYS",
    "Experiment",
    "build",
    "check_key",
    "explain",
    "find_config",
    "load",
    "parse_value",
    "read_experiment",
    "read_yaml",
]

APP_ROOT = Path(__file__).resolve().parent.parent  # holds configs/ beside the three packages
DEFAULT_CONFIG = "configs/digits_lt.yaml"
_LARGEST_FILE = 1 << 16  # bytes
_PATH_KEYS = ("data-dir", "output-dir", "image-cache")
_UNTUNED = {  # what methods are compared under
    *(name.replace("_", "-") for name in FEDERATION_FIELDS),
    *("name", "method", "rounds", "local-epochs", "participation", "classes", "labels"),
    *("data-dir", "output-dir", "run-name", "resume", "image-memory", "image-cache"),
}
_MOST_BRACKETS = 50  # no key needs more than two


def load(
    config: str | Path = DEFAULT_CONFIG, overrides: Mapping[str, Any] | None = None, base: Path | None = None
) -> Experiment:
    """Read a YAML file, apply overrides and return the validated experiment with absolute paths.

    Args:
        config: path of the YAML; a relative one is looked up below `base`, then beside the packages.
        overrides: flat keys; an empty string means "not given" (Flower's run-config needs a value).
        base: the folder that relative paths start from, normally the user's; None where nobody knows
            it (inside a Flower run): a relative path in an override is then an error.

    Raises:
        UserError: unknown key, impossible value, missing or malformed file.
    """
    path = find_config(config, base)
    stem = re.sub(r"[^\w.-]", "-", path.stem).lstrip(".-")[:64]
    given = _given(overrides or {})
    values: dict[str, Any] = {"name": stem or "experiment", **read_experiment(path, given.get("method"))}
    _make_absolute(values, path.parent)
    _make_absolute(given, base)
    values.update(given)
    return build(values, source=str(config))


def build(values: Mapping[str, Any], source: str = "the experiment") -> Experiment:
    """Validate a flat mapping; raise `UserError` naming key, value, what is allowed, nearest key."""
    for key, value in values.items():
        check_key(key, value, source)
    try:
        return Experiment.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error)}") from None


def check_key(key: str, value: Any, source: str) -> None:
    """Raise `UserError` for a key that no experiment has: names key, value and the nearest known key."""
    if key not in KEYS:
        near = nearest(str(key), KEYS)
        hint = did_you_mean(near).rstrip() or f"known keys: {', '.join(KEYS)}"
        raise UserError(f"{source}: unknown key {shown(str(key))} (value {shown(value)}): {hint}")


def find_config(config: str | Path, base: Path | None) -> Path:
    """Return the YAML's absolute path; raise `UserError` that lists the shipped ones if there is none."""
    given = expand(config, "config")
    roots = ([base] if base else []) + [APP_ROOT, APP_ROOT / "common"]
    tried = [given] if given.is_absolute() else [root / given for root in roots]
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
    values = read_yaml(path)
    tuned = values.pop("tuned", {})
    where = f"{path}: tuned"
    if not isinstance(tuned, dict) or not all(isinstance(keys, dict) for keys in tuned.values()):
        raise UserError(f"{where}: give a method's keys below its name, e.g. tuned: {{fedavg: {{learning-rate: 0.1}}}}")
    for name, keys in tuned.items():
        if name not in METHODS:
            raise unknown(f"method under 'tuned' of {path}", str(name), METHODS)
        for key, value in keys.items():
            check_key(key, value, f"{where}: {name}")
            if key in _UNTUNED:
                raise UserError(f"{where}: {name}: {key} is the experiment's, the same for all methods")
    chosen = method or values.get("method", Experiment.model_fields["method"].default)
    return values | _given(tuned.get(str(chosen), {}))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the file's keys that have a value; raise `UserError` if it is no file of 'key: value' lines."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise UserError(f"{path}: has more than {_LARGEST_FILE} bytes; give a file of 'key: value' lines")
        values = _parse_yaml(content.decode("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a YAML file: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except ValueError as error:
        raise UserError(f"{path}: not a YAML file: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected 'key: value' lines, found {type(values).__name__}")
    return _given({str(key): value for key, value in values.items()})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that have a value: an empty string is none."""
    return {key: value for key, value in values.items() if value != ""}


def _parse_yaml(text: str) -> Any:
    """Return what a YAML text says; raise `ValueError` where it is none."""
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except OverflowError:  # of the scanner
        raise ValueError("it has a character, written as \\U…, that does not exist") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def parse_value(text: str) -> Any:
    """Return a value typed on the command line as YAML reads it; the text itself where it is no YAML."""
    try:
        return _parse_yaml(text)
    except ValueError:  # also what looks like a date, and is none
        return text


class _PlainLoader(yaml.SafeLoader):
    """Safe, without aliases, a few of which can stand for more than any memory holds, and without brackets in heaps."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias (*) before line {self.line + 1}; write the value itself there")
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (AttributeError, LookupError, TypeError):
            # PyYAML does not expect a tag (!!) that does not fit its value
            kind = node.tag.removeprefix("tag:yaml.org,2002:")
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: {shown(node.value)} is no {kind}; leave out the !!{kind} before it"
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []  # a tag can make anything come here
        keys = [str(key.value) for key, _ in pairs]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: {shown(twice[0])} is there twice; put both into one"
            )
        return super().construct_mapping(node, deep)

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        if self.flow_level >= _MOST_BRACKETS:  # the scanner takes minutes for thousands
            raise yaml.YAMLError(f"line {self.line + 1}: more than {_MOST_BRACKETS} brackets inside each other")
        super().fetch_flow_collection_start(token)


def _make_absolute(values: dict[str, Any], base: Path | None) -> None:
    for key in _PATH_KEYS:
        if not isinstance(value := values.get(key), str | Path):
            continue
        path = expand(value, key)
        if not path.is_absolute():
            if base is None:
                raise UserError(
                    f"{key} = {str(value)!r}: a Flower run does not know your folder; give an absolute path"
                )
            path = base / path
        values[key] = path.resolve()


def explain(error: ValidationError) -> str:
    """Return the first thing that is wrong: key, value and what is allowed."""
    first = error.errors()[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return message
    key = str(first["loc"][0]).replace("_", "-")
    allowed = message[:1].lower() + message[1:]
    allowed = allowed.replace("input should", "should")
    allowed = allowed.replace("input is not a valid path for <class 'pathlib.Path'>", "should be a path")
    return f"{key} = {shown(first['input'])}: {allowed}"
