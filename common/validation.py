"""A flat mapping that a person wrote, checked against a pydantic model: every mistake, not the first alone."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from common.errors import did_you_mean, nearest, short_repr

ModelT = TypeVar("ModelT", bound=BaseModel)
_NAME = re.compile(r"\^\\w\[\\w\.-\]\{0,(\d+)\}\$")  # the pattern of names, which nobody should have to read
_MOST_KEYS = 40  # that a line lists
Mistake = tuple[str, str]  # the key, and the words that name it


def unknown_keys(values: Mapping[str, Any], known: Collection[str], also: Collection[str] = ()) -> list[Mistake]:
    """Return a mistake for each key that there is not: key, value and the nearest known key, or once all of them.

    Args:
        values: key → value.
        known: keys that there are.
        also: words that a hint may name, too.
    """
    found, listed = [], False
    for key in values:
        if key not in known:
            near = nearest(str(key), [*known, *also])
            hint = did_you_mean(near).rstrip() or ("" if listed else _known(known))
            listed = listed or not near
            message = f"unknown key {short_repr(str(key))} (value {short_repr(values[key])})"
            found.append((key, f"{message}: {hint}" if hint else message))
    return found


def _known(keys: Collection[str]) -> str:
    return f"known keys: {', '.join(keys)}" if len(keys) <= _MOST_KEYS else "configs/README.md lists every key"


def valid_fields(model: type[ModelT], values: Mapping[str, Any]) -> tuple[ModelT | None, list[Mistake]]:
    """Validate a mapping whose keys are all known.

    Args:
        model: whose keys have hyphens.
        values: key → value.

    Returns:
        The model without the keys that have a mistake, which then have their defaults; None where one of those has
        none. And the mistakes, one a key: key, value and what is allowed.
    """
    try:
        return model.model_validate(dict(values)), []
    except ValidationError as error:
        found: dict[str, str] = {}
        for details in error.errors():
            key = str(details["loc"][0]).replace("_", "-") if details["loc"] else ""
            words = _words(model, key, details)
            if key not in found:
                found[key] = words
            elif isinstance(details["loc"][-1], str):  # of a key that takes a word or a number: what else it takes
                found[key] += " or " + words.split(": should ", 1)[-1]
    try:
        return model.model_validate({k: v for k, v in values.items() if k not in found}), [*found.items()]
    except ValidationError:
        return None, [*found.items()]


def _words(model: type[BaseModel], key: str, details: ErrorDetails) -> str:
    """Return what is wrong: key, value and what is allowed."""
    message = str(details["msg"]).removeprefix("Value error, ")
    if not key:
        return message
    if details["type"] == "missing":
        return f"no key '{key}': {model.model_fields[key.replace('-', '_')].description}"
    allowed = message[:1].lower() + message[1:]
    allowed = allowed.replace("input should", "should")
    allowed = allowed.replace("input is not a valid path for <class 'pathlib.Path'>", "should be a path")
    if found := _NAME.fullmatch(str(details.get("ctx", {}).get("pattern", ""))):
        most = int(found[1]) + 1
        allowed = f"should be 1 to {most} letters, digits, '_', '-' or '.', and begin with none of the last two"
    value = details["input"]
    return f"{key} = {short_repr(str(value) if isinstance(value, Path) else value)}: {allowed}"
