"""What is known of a key of an experiment, declared where the key is: every list of keys is derived from it.

learning_rate: float = key(0.03, gt=0, about="SGD, all parameter groups")
quorum: Rate = key(0.5, about="share of the asked sites whose replies a round needs", resume="onward")
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from common.errors import did_you_mean, nearest

Positive = Annotated[int, Field(ge=1, le=10**9)]
NotNegative = Annotated[int, Field(ge=0, le=10**9)]
Rate = Annotated[float, Field(gt=0, le=1)]


_WORDS: dict[object, str] = {True: "true", False: "false", None: "not given"}


class Condition(NamedTuple):
    """What must hold for a key to act.

    Attributes:
        words: as a person reads it.
        holds: whether it does, given the values of all keys, by their names with underscores.
    """

    words: str
    holds: Callable[[Any], bool]


def is_one_of(name: str, *values: object) -> Condition:
    """Return the condition that another key has one of these values."""
    attribute = python_name(name)
    words = [_WORDS[value] if value is None or isinstance(value, bool) else str(value) for value in values]
    return Condition(f"{name}: {' or '.join(words)}", lambda e: getattr(e, attribute) in values)


def is_set(name: str) -> Condition:
    """Return the condition that another key is above 0."""
    attribute = python_name(name)
    return Condition(f"{name} above 0", lambda e: bool(getattr(e, attribute)))


@dataclass(frozen=True)
class Acts:
    """With what a key acts; without a row it always does. A method's own key acts with that method beside.

    Attributes:
        when: of the other keys, whatever the method; None: always.
        methods: the methods that read the key; empty: all.
        inside: of the method together with other keys; None: always.
        elsewhere: whether a command other than `run` sets what it needs, so that a file may hold it.
    """

    when: Condition | None = None
    methods: tuple[str, ...] = ()
    inside: Condition | None = None
    elsewhere: bool = False


@dataclass(frozen=True)
class KeyFacts:
    """What is known of a key beside its type, its default and what it is about.

    Attributes:
        resume: where a run is taken up again: 'fixed', the key must stay as it was; 'onward', finished rounds stay
            as they are, bit for bit, and those ahead, or the end, follow the new value; 'host', it may change and
            never decides what comes out (where a run is, and how patiently it goes on).
        data: whether it decides how images look ('look'), which there are ('images') or which site has which
            ('sites').
        labels: whether it is for images with one label alone, or with many; or for composing, of those with one.
        machine: whether it says how a machine computes, which a model that is handed on does not tell.
        stays: whether it is of this machine, or this start, alone: it is not handed on, to sites or in files.
        common: whether compared methods must share it, so that tuning one of them may not change it.
        changes: the metric that shows what the key does, where it leaves the generic model as it is.
        grid: the values that tuning tries.
        everyday: whether `flwr run` knows it by itself; every other key goes through its `overrides`.
        acts: with what it acts.
    """

    resume: Literal["fixed", "onward", "host"] = "fixed"
    data: Literal["", "look", "images", "sites"] = ""
    labels: Literal["", "one", "many", "one composed"] = ""
    machine: bool = False
    stays: bool = False
    common: bool = False
    changes: Literal["", "personal", "fine-tuned"] = ""
    grid: tuple[Any, ...] = ()
    everyday: bool = False
    acts: Acts = field(default_factory=Acts)

    @property
    def tunable(self) -> bool:
        """Whether one of several compared methods may have a value of its own."""
        return not (self.data or self.stays or self.common)


def key(
    default: Any = ...,
    *,
    about: str,
    factory: Callable[[], Any] | None = None,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    pattern: str | None = None,
    **facts: Any,
) -> Any:
    """Declare a key: a pydantic field that also carries `KeyFacts`.

    Args:
        default: its value where nobody gives one.
        about: what it is, in one line.
        factory: makes the default, where that is the machine's.
        gt: it must be above this.
        ge: it must be this or above.
        lt: it must be below this.
        le: it must be this or below.
        pattern: that its text must match.
        **facts: of `KeyFacts`.
    """
    limits = {"gt": gt, "ge": ge, "lt": lt, "le": le, "pattern": pattern}
    given: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
    start = {"default_factory": factory} if factory else {"default": default}
    extra: Any = {"facts": KeyFacts(**facts)}
    return Field(**start, **given, description=about, json_schema_extra=extra)


@dataclass(frozen=True)
class OneOf:
    """The rule that a key's text is the name of one of a table's rows: `Annotated[str, OneOf(METHODS)]`.

    Attributes:
        names: that are allowed, in the table's order.
        prefixes: before names of a library's, which are looked up where it is imported: 'torchvision:'.
    """

    names: Collection[str]
    prefixes: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def _check(self, word: Any) -> Any:
        if not isinstance(word, str) or not (word in self.names or self._of_a_library(word)):
            near = did_you_mean(nearest(str(word), self.names))
            raise ValueError(f"{near}allowed: {', '.join([*sorted(self.names), *map('{}NAME'.format, self.prefixes)])}")
        return word

    def _of_a_library(self, word: str) -> bool:
        names = [word.removeprefix(prefix) for prefix in self.prefixes if word.startswith(prefix)]
        return any(re.fullmatch(r"\w+(\.\w+)?", name, re.ASCII) for name in names)  # timm's have tags: resnet18.a1_in1k


@dataclass(frozen=True)
class PathOr:
    """A key's text names a file or folder, unless it is one of a few words: `Annotated[str, PathOr(("none",))]`.

    Attributes:
        words: that are no paths.
        prefix: that may stand before a path.
    """

    words: tuple[str, ...]
    prefix: str


def facts_of(info: FieldInfo) -> KeyFacts:
    """Return what is known of the key that a model's field declares."""
    extra = info.json_schema_extra
    facts = extra.get("facts") if isinstance(extra, dict) else None
    return facts if isinstance(facts, KeyFacts) else KeyFacts()


def python_name(name: str) -> str:
    """Return a key as an attribute: `learning-rate` is `learning_rate`."""
    return name.replace("-", "_")


def key_name(attribute: str) -> str:
    """Return an attribute as a key: `learning_rate` is `learning-rate`."""
    return attribute.replace("_", "-")


class KeyModel(BaseModel):
    """Keys that belong together: frozen, named with hyphens, without any that nobody declared."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=key_name, populate_by_name=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _plain_values(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse YAML's yes/no/on/off/true/false as 1 or 0, and text that no file could hold."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation not in (bool, bool | None):
            raise ValueError("should be a number or a word, not yes or no")
        words = value if isinstance(value, list | tuple) else [value]
        if any(word.encode(errors="replace").decode() != word for word in words if isinstance(word, str)):
            raise ValueError("should be text that can be written to a file")  # \ud800 and the like
        return value
