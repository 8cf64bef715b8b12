"""Reading YAML that people wrote: safely, in little memory, with errors that name the line."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError, short_repr

_LARGEST_FILE = 1 << 16  # bytes
_MOST_BRACKETS = 50  # no key needs more than two


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the file's keys and values; raise `UserError` if it is no file of 'key: value' lines."""
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
    return {str(key): value for key, value in values.items()}


def given(values: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return the keys that have a value: an empty string is none. An unknown key stays, to be refused."""
    return {key: value for key, value in values.items() if value != "" or key not in known}


def parse_value(text: str) -> Any:
    """Return a value typed on the command line as YAML reads it; the text itself where it is no YAML."""
    try:
        return _parse_yaml(text)
    except ValueError:  # also what looks like a date, and is none
        return text


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
                f"line {node.start_mark.line + 1}: {short_repr(node.value)} is no {kind}; leave out the "
                f"!!{kind} before it"
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []  # a tag can make anything come here
        keys = [str(key.value) for key, _ in pairs]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: {short_repr(twice[0])} is there twice; put both into one"
            )
        return super().construct_mapping(node, deep)

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        if self.flow_level >= _MOST_BRACKETS:  # the scanner takes minutes for thousands
            raise yaml.YAMLError(f"line {self.line + 1}: more than {_MOST_BRACKETS} brackets inside each other")
        super().fetch_flow_collection_start(token)
