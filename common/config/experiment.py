"""The experiment: one frozen, validated object, the same on the coordinator and at every site.

`common/config/reading.py` reads it from a YAML file and overrides. Keys are written with hyphens.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from common.config.consistency import contradictions
from common.config.layout import flatten, validated
from common.config.rows import ROWS
from common.config.sections import (
    SECTIONS,
    DataSection,
    ModelSection,
    PersonaliseSection,
    RoundsSection,
    RunSection,
    SitesSection,
    TrainSection,
    conditions,
)
from common.config.top import TopKeys
from common.config.values import Values
from common.keys import key_name, python_name
from common.methods import METHODS, MethodOptions


def _hyphened(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments as keys; raise `ValueError` for a key in both spellings."""
    named = {key_name(key) if key_name(key) in ROWS else key: value for key, value in values.items()}
    if len(named) < len(values):
        raise ValueError("a key is there twice, with hyphens and with underscores")
    return named


class Experiment(TopKeys):
    """Everything that decides a run: the sections, and the own keys of its method.

    It is made of keys in any form that `common/config/layout.py` knows.

    Example:
        >>> experiment = Experiment(method="fedprox", rounds=5, train={"learning-rate": 0.1})
        >>> experiment.rounds.rounds, experiment.train.learning_rate, experiment.options.fedprox_mu
        (5, 0.1, 0.01)

    Raises:
        pydantic.ValidationError: unknown keys, impossible values, contradictions. For people: `common.config.build`.
    """

    data: DataSection = Field(default_factory=DataSection)
    sites: SitesSection = Field(default_factory=SitesSection)
    model: ModelSection = Field(default_factory=ModelSection)
    train: TrainSection = Field(default_factory=TrainSection)
    personalise: PersonaliseSection = Field(default_factory=PersonaliseSection)
    rounds: RoundsSection = Field(default_factory=RoundsSection)
    run: RunSection = Field(default_factory=RunSection)
    options: SerializeAsAny[MethodOptions] = Field(default_factory=MethodOptions)

    @model_validator(mode="before")
    @classmethod
    def _in_sections(cls, values: Any) -> Any:
        """Put keys in any form where they belong."""
        if not isinstance(values, Mapping):
            return values
        named = _hyphened(values)
        if (options := named.pop("options", None)) is not None:
            method = named.get("method", cls.default("method"))
            if not isinstance(options, Mapping | MethodOptions) or method in named:
                raise ValueError(f"options: give {method}'s own keys once, below {method}")
            named[method] = options
        named = {
            k: _hyphened(v) if isinstance(v, Mapping) and k not in ROWS.keys() - SECTIONS else v
            for k, v in named.items()
        }
        flat, unknown = flatten(named)
        parts, wrong = validated(flat)
        if found := unknown + wrong:
            raise ValueError("; ".join(words for _, words in found))
        return parts

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse keys that contradict each other; what depends on the data set's labels, `build_federation` checks."""
        if found := contradictions(Values(self)):
            raise ValueError("; ".join(words for _, words in found))
        return self

    @classmethod
    def of_parts(cls, parts: Mapping[str, Any]) -> Self:
        """Return the experiment of what `validated` returned, whether or not its keys contradict each other."""
        return cls.model_construct(**parts)

    @classmethod
    def default(cls, key: str) -> Any:
        """Return the value that a key has where nobody gives one."""
        return ROWS[key].default

    def values(self) -> dict[str, Any]:
        """Return the value of each key of this experiment, by its name with underscores."""
        found = {"name": self.name, "method": self.method}
        for section in (*(getattr(self, name) for name in SECTIONS), self.options):
            found |= section.__dict__
        return found

    def has(self, key: str) -> bool:
        """Whether a key, by its name alone, is of this experiment: not another method's own."""
        methods = ROWS[key].methods
        return not methods or self.method in methods

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values, which are not validated; keys by their names alone, with underscores.

        With another `method` come that one's own keys: those that both have stay as they are.
        """
        known = {field for field in changes if key_name(field) in ROWS}
        assert known == changes.keys(), f"no such keys: {sorted(changes.keys() - known)}"
        update: dict[str, Any] = {name: changes[name] for name in ("name", "method") if name in changes}
        for section, model in SECTIONS.items():
            if own := {name: value for name, value in changes.items() if name in model.model_fields}:
                update[section] = getattr(self, section).model_copy(update=own)
        options = self.options
        if changes.get("method", self.method) != self.method:
            kind = METHODS[changes["method"]].options
            options = kind.model_construct(
                **{name: value for name, value in options.__dict__.items() if name in kind.model_fields}
            )
        own = {name: value for name, value in changes.items() if name in type(options).model_fields}
        return self.model_copy(update=update | {"options": options.model_copy(update=own)})

    @property
    def agreed_labels(self) -> Literal["one", "many"]:
        """How many labels an image has at every real site: `labels`, else what the method takes, else one."""
        taken = METHODS[self.method].labels
        return self.data.labels or ("one" if taken == "any" else taken)

    @property
    def train_from(self) -> str | None:
        """The stage before which the backbone stands still: `train-from`, and all of it where nothing trains."""
        return conditions.train_from(Values(self))

    def dump(self, defaults: bool = True) -> dict[str, Any]:
        """Return the resolved configuration as plain JSON values under each key's name alone.

        Args:
            defaults: with the keys that have their defaults.
        """
        found: dict[str, Any] = {"name": self.name, "method": self.method}
        for section in (*(getattr(self, name) for name in SECTIONS), self.options):
            found |= section.model_dump(mode="json", by_alias=True)
        if defaults:
            return found
        values = self.values()
        return {key: value for key, value in found.items() if values[python_name(key)] != ROWS[key].default}

    def in_sections(self) -> dict[str, Any]:
        """Return the same as a YAML file has it: `name`, `method`, the sections, and the method's block."""
        found: dict[str, Any] = {"name": self.name, "method": self.method}
        found |= {name: getattr(self, name).model_dump(mode="json", by_alias=True) for name in SECTIONS}
        own = self.options.model_dump(mode="json", by_alias=True)
        return found | ({self.method: own} if own else {})
