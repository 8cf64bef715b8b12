"""What `augment` may say: steps that change a training image one after the other, each with its parameters.

flip                      a step by itself
flip+rotate:15            steps joined by +, a parameter behind each colon
[flip, {rotate: 15}]      the same as YAML's list

Common to all who read the key; what the steps do is in `common/data/images/augmentation.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from common.errors import did_you_mean, nearest, short_repr

NONE = "none"


@dataclass(frozen=True)
class Parameter:
    """A number that a step takes.

    Attributes:
        name: as documents call it.
        default: where nobody gives it.
        least: it must be this or above.
        most: it must be this or below.
        whole: whether it is an integer.
    """

    name: str
    default: float
    least: float
    most: float
    whole: bool = False


STEPS: dict[str, tuple[Parameter, ...]] = {
    "flip": (),
    "crop-flip": (),
    "rotate": (Parameter("degrees", 15, 0, 180),),
    "random-resized-crop": (Parameter("smallest share of the area", 0.08, 0.01, 1),),
    "color-jitter": (
        *(Parameter(name, 0.2, 0, 1) for name in ("brightness", "contrast", "saturation")),
        Parameter("hue", 0, 0, 0.5),
    ),
    "randaugment": (Parameter("operations", 2, 1, 14, True), Parameter("magnitude", 9, 0, 30, True)),
    "trivialaugment": (),
}


class Step(NamedTuple):
    """A step as it was asked for.

    Attributes:
        name: a row of `STEPS`.
        values: of its parameters, all of them.
    """

    name: str
    values: tuple[float, ...] = ()

    def __str__(self) -> str:
        return ":".join([self.name, *(f"{value:g}" for value in self.values)])


def parse_steps(written: object) -> tuple[Step, ...]:
    """Return the steps that a text, or YAML's list, asks for; 'none' has none.

    Raises:
        ValueError: an unknown step, a parameter that cannot be, or one too many; with what is allowed.

    Example:
        >>> [str(step) for step in parse_steps("flip+rotate:15")], parse_steps("none")
        (['flip', 'rotate:15'], ())
        >>> [str(step) for step in parse_steps(["flip", {"random-resized-crop": 0.6}])]
        ['flip', 'random-resized-crop:0.6']
    """
    if written in ([], ()):
        raise ValueError(f"an empty list; write {NONE}")
    words = [_word(item) for item in (written if isinstance(written, list | tuple) else [written])]
    steps = [step for word in words for step in word.split("+")]
    return () if steps == [NONE] else tuple(map(_step, steps))


def _word(item: object) -> str:
    """Return an item of a list as it is written in text: {rotate: 15} is 'rotate:15'."""
    if not isinstance(item, Mapping):
        return str(item)
    if len(item) != 1:
        raise ValueError("give each step of a list by itself, as in [flip, {rotate: 15}]")
    [(name, values)] = item.items()
    if isinstance(values, Mapping):
        raise ValueError(f"give {name}'s numbers by themselves, as in [flip, {{rotate: 15}}]")
    return ":".join([str(name), *map(str, values if isinstance(values, list | tuple) else [values])])


def _step(text: str) -> Step:
    name, *values = text.strip().split(":")
    if name not in STEPS:
        near = did_you_mean(nearest(name, STEPS))
        what = f"'{NONE}' stands alone; " if name == NONE else ""
        known = ", ".join(f"'{known}'" for known in [NONE, *STEPS])
        raise ValueError(f"{what}{near}allowed: {known}, joined by +, as in flip+rotate:15")
    rows = STEPS[name]
    if len(values) > len(rows):
        most = f"{len(rows)} number{'s' * (len(rows) > 1)}: {', '.join(row.name for row in rows)}; as in {form(name)}"
        raise ValueError(f"{name} takes {f'at most {most}' if rows else 'no number'}")
    given = [_number(name, row, value) for row, value in zip(rows, values, strict=False)]
    return Step(name, (*given, *(row.default for row in rows[len(values) :])))


def _number(step: str, row: Parameter, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not row.least <= value <= row.most or (row.whole and value != int(value)):
        kind = "an integer" if row.whole else "a number"
        raise ValueError(
            f"{step}: {row.name} should be {kind} from {row.least:g} to {row.most:g}, not {short_repr(text)}"
        )
    return value


def form(name: str) -> str:
    """Return a step with its parameters as they are by default.

    Example:
        >>> form("randaugment")
        'randaugment:2:9'
    """
    return str(Step(name, tuple(row.default for row in STEPS[name])))


class Steps:
    """The rule that a key's text, or list, is of steps: `Annotated[str, Steps()]`; the key then holds the text.

    Attributes:
        takes: the key's values as the list of keys shows them.
    """

    takes = f"{', '.join(f'`{text}`' for text in [NONE, *map(form, STEPS)])}, joined by `+`"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._text, handler(source))

    @staticmethod
    def _text(written: object) -> str:
        return "+".join(map(str, parse_steps(written))) or NONE
