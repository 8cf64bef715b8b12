"""How keys may be written: below their section, below their method, with dots, or alone.

    train: {learning-rate: 0.1}      a section
    fedloge: {frame-norm: 3}         a method's block
    train.learning-rate=0.1          the same with dots, as on a command line
    learning-rate=0.1                the key alone: names are unique

Whatever the form, `flatten` makes it flat: a key by its name alone, or `method.key` where one method alone is meant.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from common.config.rows import KEYS, ROWS
from common.config.sections import SECTIONS
from common.config.top import TopKeys
from common.errors import did_you_mean, nearest, short_repr
from common.keys import KeyModel, key_name
from common.methods import METHODS
from common.validation import Mistake, unknown_keys, valid_fields

_BLOCKS: dict[str, type[KeyModel]] = {**SECTIONS, **{name: row.options for name, row in METHODS.items()}}


def flatten(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Mistake]]:
    """Return the known keys flat, and a mistake for each unknown one."""
    flat: dict[str, Any] = {}
    found: list[Mistake] = []
    unknown: dict[str, Any] = {}
    for key, value in ((str(key), value) for key, value in values.items()):
        if key in ROWS and not (key in SECTIONS and isinstance(value, Mapping)):
            _put(flat, key, value, key, found)
        elif key in _BLOCKS:
            for name, inner in _entries(key, value, found):
                _put_below(flat, key, name, inner, found)
        elif (block := key.partition(".")[0]) != key and block in _BLOCKS:
            _put_below(flat, block, key.partition(".")[2], value, found)
        else:
            unknown[key] = value
    return flat, unknown_keys(unknown, KEYS, _BLOCKS) + found


def canonical(key: str) -> str:
    """Return how `flatten` names a key, and any other word as it is: `train.learning-rate` is `learning-rate`."""
    block, dot, name = key.partition(".")
    return name if dot and block in SECTIONS and name in map(key_name, SECTIONS[block].model_fields) else key


def flatten_typed(pairs: Iterable[tuple[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Return keys that were typed one by one flat, and those that are there twice; a key alone stands for one method's.

    A pair that is no key, or holds one that there is not, stays as it is, so that whoever reads it refuses it.
    """
    found: dict[str, Any] = {}
    twice: list[str] = []
    for key, value in pairs:
        flat, wrong = flatten({key: value})
        for name, inner in ({key: value} if wrong else flat).items():
            same = {name, leaf(name)} if "." in name else {old for old in found if leaf(old) == name}
            if found.keys() & same and not wrong:
                twice.append(leaf(name))
            found[name] = inner
    return found, twice


def leaf(key: str) -> str:
    """Return the name alone of a key that `flatten` gave."""
    return key.rpartition(".")[2]


def merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys of flat mappings, later ones win: a key alone also over one method's of an earlier mapping.

    Within one mapping it is the other way round: `frame-norm: 1, fedloge.frame-norm: 3` means all methods but one.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        kept = {key: value for key, value in values.items() if "." not in key or leaf(key) not in layer}
        values = kept | dict(layer)
    return values


def validated(flat: Mapping[str, Any]) -> tuple[dict[str, Any], list[Mistake]]:
    """Validate flat keys, and return what an `Experiment` is made of, and what is wrong with each key by itself.

    A key with a mistake has its default. Other methods' keys are looked at, and left out.
    """
    top, found = valid_fields(TopKeys, _of(flat, TopKeys))
    assert top is not None  # every key has a default
    parts: dict[str, Any] = {"name": top.name, "method": top.method}
    for section, model in SECTIONS.items():
        parts[section], mistakes = valid_fields(model, _of(flat, model))
        found += mistakes
    bad: set[str] = set()
    for method, row in METHODS.items():
        alone = _of(flat, row.options)
        own = {key.partition(".")[2]: value for key, value in flat.items() if key.startswith(f"{method}.")}
        options, mistakes = valid_fields(row.options, alone | own)
        if method == top.method:
            parts["options"] = options
        for key, words in mistakes:
            name = f"{method}.{key}" if key in own else key
            if name not in bad:
                found.append((name, f"{method}.{words}" if key in own else words))
                bad.add(name)
    return parts, found


def _of(flat: Mapping[str, Any], model: type[KeyModel]) -> dict[str, Any]:
    names = {key_name(attribute) for attribute in model.model_fields}
    return {key: value for key, value in flat.items() if key in names}


def _entries(block: str, value: Any, found: list[Mistake]) -> list[tuple[str, Any]]:
    """Return the keys below a section or a method."""
    if value is None or value == "":
        return []
    if isinstance(value, KeyModel):
        return [(key_name(name), getattr(value, name)) for name in type(value).model_fields]
    if isinstance(value, Mapping):
        return [(str(key), inner) for key, inner in value.items()]
    names = ", ".join(map(key_name, _BLOCKS[block].model_fields))
    why = f"has keys below it ({names}), no value" if names else "a method without keys of its own; leave it out"
    found.append((block, f"{block} = {short_repr(value)}: {why}"))
    return []


def _put_below(flat: dict[str, Any], block: str, name: str, value: Any, found: list[Mistake]) -> None:
    """Put a key that was written below a section or a method, or say why it cannot be there."""
    path, names = f"{block}.{name}", [key_name(attribute) for attribute in _BLOCKS[block].model_fields]
    if name in names:
        _put(flat, name if block in SECTIONS else path, value, path, found)
    elif name in ROWS:
        row = ROWS[name]
        homes = row.methods or ((row.section,) if row.section else ())
        place = f"below {' or '.join(homes)}" if homes else "at the top, below no section"
        found.append((path, f"{path} = {short_repr(value)}: {name} stands {place}"))
    else:
        near = did_you_mean(nearest(name, names) or nearest(name, KEYS)).rstrip()
        known = ", ".join(names) or "none"
        found.append(
            (path, f"unknown key {short_repr(path)} (value {short_repr(value)}): {near or f'known there: {known}'}")
        )


def _put(flat: dict[str, Any], key: str, value: Any, written: str, found: list[Mistake]) -> None:
    if key in flat:
        found.append((key, f"{written} is there twice; give it once"))
    flat[key] = value
