"""Types of an experiment's keys: the numbers they allow, and whether a run may be taken up with another value.

A key with neither of the two marks below is the same from a run's first round to its last, and decides what comes out.
"""

from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field

T = TypeVar("T")

Positive = Annotated[int, Field(ge=1, le=10**9)]
NotNegative = Annotated[int, Field(ge=0, le=10**9)]
Rate = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class OnResume:
    """A mark of a key that may have another value where a run is taken up again.

    Attributes:
        decides: whether results of another value are another experiment's.
    """

    decides: bool


Host = Annotated[T, OnResume(decides=False)]
"""Where a run is and how patiently it goes on, not what comes out: free on resume, and one result for all values."""

Onward = Annotated[T, OnResume(decides=True)]
"""Free on resume: finished rounds stay as they are, bit for bit, and those ahead, or the end, follow the new value."""


def keys_free_on_resume(model: type[BaseModel]) -> frozenset[str]:
    """Return the hyphenated keys that may change where a run is taken up again."""
    return frozenset(key for key, mark in _marks(model).items() if mark)


def keys_of_host(model: type[BaseModel]) -> frozenset[str]:
    """Return the hyphenated keys that do not decide what comes out."""
    return frozenset(key for key, mark in _marks(model).items() if mark and not mark.decides)


def _marks(model: type[BaseModel]) -> dict[str, OnResume | None]:
    return {
        name.replace("_", "-"): next((mark for mark in field.metadata if isinstance(mark, OnResume)), None)
        for name, field in model.model_fields.items()
    }
