"""The lines of a run's journal, `metrics.jsonl`: which events there are, and what of a line its readers rely on.

A line that is no event is never used. Whoever reads a journal names such lines, and goes on with the others.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import one_line

Event = dict[str, Any]
Number = float | None  # what is not finite is written as null

START_EVENTS = ("begin", "changed", "left-out", "missing", "stopped")  # kept when a run is resumed
_MOST_NAMED = 5  # lines in a message


class _Line(BaseModel):
    """What every line has; other keys may be there."""

    model_config = ConfigDict(extra="allow", strict=True)
    event: str
    round: int = 0


class _Round(_Line):
    round: int
    asked: int = 0
    answered: int = 0
    images: int = 0
    seconds: Number = None
    bytes_down: int = 0
    bytes_up: int = 0


class _Generic(_Line):
    round: int
    head: str
    stage: str = ""
    figure: str = ""
    balanced_accuracy: Number = None
    macro_auc: Number = None
    confusion: list[list[int]] = []


class _Personal(_Line):
    round: int
    stage: str
    mean: Number
    sites: dict[str, dict[str, Any]] = {}
    per_class: dict[str, list[Number]] = {}


KINDS: dict[str, type[_Line]] = {
    **dict.fromkeys(
        (*START_EVENTS, "head-start", "joined", "lost", "method", "no-quorum", "norms", "recounted"), _Line
    ),
    **dict.fromkeys(("head-start", "rejected", "rest", "summary", "versions", "weights", "withdrawn"), _Line),
    "round": _Round,
    "generic": _Generic,
    "personal": _Personal,
}


@dataclass
class JournalLines:
    """A journal as it was read.

    Attributes:
        events: what can be used, oldest first; an event that this version does not know too.
        problems: line numbers, from 1, and what is wrong with each.
        unfinished: whether its last line is half a line, which a crash leaves.
    """

    events: list[Event] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    unfinished: bool = False

    def __str__(self) -> str:
        """Say how many lines are no events, and name the first."""
        named = [f"line {number}: {reason}" for number, reason in self.problems[:_MOST_NAMED]]
        more = [f"and {len(self.problems) - _MOST_NAMED} more"] if len(self.problems) > _MOST_NAMED else []
        return f"{len(self.problems)} line(s) of metrics.jsonl are not as they should be: {'; '.join([*named, *more])}"


def parse_lines(text: str) -> JournalLines:
    """Read a journal's text; half a last line is no problem, it is left out."""
    lines, found = JournalLines(), text.splitlines()
    for number, line in enumerate(found, 1):
        event, reason = parse_line(line)
        if event is not None:
            lines.events.append(event)
        elif reason and number == len(found) and not text.endswith("\n"):
            lines.unfinished, reason = True, ""
        if reason:
            lines.problems.append((number, reason))
    return lines


def parse_line(line: str) -> tuple[Event | None, str]:
    """Return a line's event, None where it is none, and what is wrong with it, if anything."""
    if not line.strip():
        return None, ""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None, "no JSON"
    if not isinstance(event, dict):
        return None, "no object with keys"
    kind = event.get("event")
    try:
        KINDS.get(str(kind), _Line).model_validate(event)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return None, one_line(f"{where or 'it'}: {str(first['msg']).removeprefix('Input ').lower()}", 100)
    return event, "" if kind in KINDS else one_line(f"an event that this version does not know, {kind!r}", 100)
