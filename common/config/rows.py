"""Every key of an experiment as one row, derived from where it is declared: `common/config/sections`, `common/methods`.

Every list of keys is made of these rows: which are free on resume, which decide the data, which stay at home.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from common.config.sections import SECTIONS
from common.config.top import TopKeys
from common.keys import Acts, KeyFacts, KeyModel, PathOr, facts_of, key_name, python_name
from common.methods import METHODS, methods_with


@dataclass(frozen=True)
class KeyRow:
    """What is known of one key.

    Attributes:
        name: with hyphens; no two keys share one.
        section: that it stands in; '' for `name`, `method` and methods' own keys.
        methods: whose own key it is; empty: every method's.
        info: the field that declares it.
    """

    name: str
    section: str
    methods: tuple[str, ...]
    info: FieldInfo

    @property
    def facts(self) -> KeyFacts:
        """What the declaration says beside type, default and text."""
        return facts_of(self.info)

    @property
    def acts(self) -> Acts:
        """With what it acts: a method's own key with that method."""
        return replace(self.facts.acts, methods=self.methods) if self.methods else self.facts.acts

    @property
    def default(self) -> Any:
        """The value that it has where nobody gives one."""
        return self.info.get_default(call_default_factory=True)

    @property
    def about(self) -> str:
        """What it is, in one line."""
        return str(self.info.description)

    @property
    def is_path(self) -> bool:
        """Whether it names a folder or file of one machine."""
        return Path in {self.info.annotation, *get_args(self.info.annotation)}

    @property
    def path_or(self) -> PathOr | None:
        """The words that its text may be, where it names a file or folder otherwise."""
        return next((rule for rule in self.info.metadata if isinstance(rule, PathOr)), None)


def _rows() -> dict[str, KeyRow]:
    found: dict[str, KeyRow] = {}

    def add(model: type[KeyModel], section: str, own: bool = False) -> None:
        for attribute, info in model.model_fields.items():
            name = key_name(attribute)
            if name in found and not (own and found[name].methods and _same(found[name].info, info)):
                raise TypeError(f"two keys are named {name}; methods that share one declare it once")
            found[name] = KeyRow(name, section, methods_with(attribute) if own else (), info)

    add(TopKeys, "")
    for section, model in SECTIONS.items():
        add(model, section)
    for method in METHODS.values():
        add(method.options, "", own=True)
    return found


def _same(one: FieldInfo, other: FieldInfo) -> bool:
    """Whether two methods mean the same by a key: type, default and all that is known of it."""
    return (one.annotation, one.default, one.description, facts_of(one)) == (
        *(other.annotation, other.default, other.description, facts_of(other)),
    )


ROWS: dict[str, KeyRow] = _rows()
KEYS: tuple[str, ...] = tuple(ROWS)
PATH_KEYS: tuple[str, ...] = tuple(name for name, row in ROWS.items() if row.is_path)
MIXED_KEYS: dict[str, PathOr] = {name: row.path_or for name, row in ROWS.items() if row.path_or}  # words, or paths


def keys_where(holds: Callable[[KeyFacts], bool]) -> frozenset[str]:
    """Return the keys of whose facts something holds.

    Example:
        >>> sorted(keys_where(lambda facts: facts.stays))
        ['data-dir', 'image-cache', 'image-memory', 'output-dir', 'resume', 'run-name', 'trunk-memory']
    """
    return frozenset(name for name, row in ROWS.items() if holds(row.facts))


def attributes_where(holds: Callable[[KeyFacts], bool]) -> tuple[str, ...]:
    """Return the same keys as attributes, in order."""
    return tuple(python_name(name) for name, row in ROWS.items() if holds(row.facts))
