"""Checks the numbers in a coordinator's request: a site deletes files and trains by them, and trusts none."""

from typing import Any

from common.errors import RefusalError, short_repr


def check_rounds(
    number: Any, checkpointed: Any, trained: Any, span: tuple[int, int]
) -> tuple[int, tuple[int, ...], int]:
    """Return a request's rounds as they are, if they can be.

    Args:
        number: the round that is asked for.
        checkpointed: the rounds of which the coordinator says that it keeps a checkpoint, one at least.
        trained: the last round that it says the site trained in; 0 for none.
        span: the first and the last round that there can be such a request in.

    Raises:
        RefusalError: a round out of this span, or others that are no rounds before it.
    """
    if type(number) is not int or not span[0] <= number <= span[1]:
        raise RefusalError(
            f"round = {short_repr(number)}: such a request is of rounds {span[0]} to {span[1]} of this run"
        )
    before = range(max(1, number))
    if (
        not isinstance(checkpointed, list)
        or not checkpointed
        or any(type(n) is not int or n not in before for n in checkpointed)
    ):
        raise RefusalError(f"secured = {short_repr(checkpointed)}: not rounds before round {number}")
    if type(trained) is not int or trained not in before:
        raise RefusalError(f"trained = {short_repr(trained)}: no round before round {number}")
    return number, tuple(checkpointed), trained


def check_rate(factor: Any) -> float:
    """Return a request's factor of the learning rate, if it is one: no rate goes beyond the experiment's.

    Raises:
        RefusalError: it is no number from 0 to 1.
    """
    if type(factor) is not float or not 0 <= factor <= 1:
        raise RefusalError(f"rate = {short_repr(factor)}: a schedule's factor of the learning rate is from 0 to 1")
    return factor
