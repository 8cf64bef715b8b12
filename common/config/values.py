"""The values of all keys, each by its name alone: what conditions and contradictions between keys are read from."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from common.config.rows import ROWS
from common.keys import key_name

if TYPE_CHECKING:
    from common.config.experiment import Experiment


class UnknownValueError(Exception):
    """A key was read whose value is not known."""


class Values:
    """The keys of an experiment as attributes, `values.learning_rate`; other methods' own keys have their defaults.

    Args:
        experiment: whose.
        unknown: keys that have no valid value: to read one raises `UnknownValueError`.
    """

    def __init__(self, experiment: "Experiment", unknown: Collection[str] = ()) -> None:
        self._values, self._unknown = experiment.values(), frozenset(unknown)

    def __getattr__(self, name: str) -> Any:
        if (key := key_name(name)) in self._unknown:
            raise UnknownValueError(name)
        if key not in ROWS:
            raise AttributeError(name)
        return self._values[name] if name in self._values else ROWS[key].default
