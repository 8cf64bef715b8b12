"""When each key has an effect: a key that is given but has none is a misunderstanding, and is rejected by name.

Whole experiments are never refused for it: a YAML file that several methods share, and every resolved configuration,
hold keys that one run alone does not read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from common.config.experiment import Experiment
from common.config.layout import leaf
from common.config.rows import ROWS
from common.config.values import Values
from common.errors import short_repr
from common.keys import python_name


def missing_condition(
    key: str, experiment: Experiment, whatever_method: bool = False, values: Values | None = None
) -> str:
    """Return the condition that a key lacks to change anything in this experiment; '' if it does, or has its default.

    Args:
        key: as `flatten` names it: alone, or of one method.
        experiment: that was made with it.
        whatever_method: to look at the other keys alone, since several methods share the experiment.
        values: of the experiment; with those that are not known, reading one raises `UnknownValueError`.
    """
    name = leaf(key)
    row, values = ROWS[name].acts, values or Values(experiment)
    methods = (key.partition(".")[0],) if name != key else row.methods
    if methods and experiment.method not in methods:
        return "" if whatever_method else f"method: {' or '.join(methods)}"
    if getattr(values, python_name(name)) == ROWS[name].default:
        return ""
    if row.when and not row.when.holds(values):
        return row.when.words
    if whatever_method:
        return ""
    return row.inside.words if row.inside and not row.inside.holds(values) else ""


def no_effect_message(key: str, value: object, needed: str) -> str:
    """Return the message for a key without effect; `needed` is what `missing_condition` returned."""
    return f"{key} = {short_repr(value)}: has no effect here, it acts with {needed}; leave it out"


def missing_condition_everywhere(key: str, experiments: Sequence[Experiment]) -> str:
    """Return the condition that a key lacks in each of these experiments; '' if one has it, or all have its default."""
    holders = [
        e for e in experiments if not e.has(leaf(key)) or e.values()[python_name(leaf(key))] != e.default(leaf(key))
    ]
    needed = [missing_condition(key, experiment) for experiment in holders]
    return needed[0] if needed and all(needed) else ""


def of_other_methods(key: str, method: str) -> bool:
    """Whether a key is another method's own, so that this one's result does not depend on it."""
    methods = ROWS[key].acts.methods if key in ROWS else ()
    return bool(methods) and method not in methods


def drop_ineffective(values: Mapping[str, Any], experiment: Experiment) -> dict[str, Any]:
    """Return the flat values that change something in the experiment they are of, whatever the method."""
    return {
        key: value
        for key, value in values.items()
        if leaf(key) not in ROWS or not missing_condition(key, experiment, whatever_method=True)
    }
