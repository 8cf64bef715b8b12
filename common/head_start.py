"""`head-start`: which sums of features heads start from, and what they disclose.

The heads of a method that trains start as the generic head of the method whose row has the word in `starts`.
"""

from typing import TYPE_CHECKING

from common.methods import HEAD_STARTS, METHODS, Method

if TYPE_CHECKING:
    from common.config import Experiment


def solver_of(experiment: "Experiment") -> "Experiment | None":
    """Return the experiment whose generic head the heads start as, None where they start at random.

    Example:
        >>> from common.config import build
        >>> solver_of(build({"method": "fedavg", "head-start": "ridge"})).method
        'fedridge'
    """
    keys = experiment.model
    if keys.head_start not in HEAD_STARTS:
        return None
    return experiment.replace(method=HEAD_STARTS[keys.head_start].name, feature_range=keys.head_start_range)


def extras_of_start(experiment: "Experiment") -> tuple[str, ...]:
    """Return what sites send of `EXTRAS` before the first round."""
    row = HEAD_STARTS.get(experiment.model.head_start)
    return row.extras if row else ()


def all_extras(experiment: "Experiment") -> tuple[str, ...]:
    """Return what sites send of `EXTRAS`, before the first round and in each."""
    extras = METHODS[experiment.method].extras
    return extras + tuple(name for name in extras_of_start(experiment) if name not in extras)


def starts_at_sites(row: Method) -> bool:
    """Whether sites have a head that does not come with the model in each round."""
    return any(head not in (*row.shared, *row.coordinator_parts) for head in row.heads)
