"""Generated bad extras, and bad metrics of several labels an image: none is kept, none changes the model."""

from collections.abc import Callable

import numpy as np
from bad_extras import COUNTS, GRADIENTS, bad_extras, bad_gradients, bad_several
from bad_replies import BAD, GOOD, MODEL, Change, answer
from bad_rounds import check_round, experiment_of
from flwr.app import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from server_app.run.journal import Journal

Asked = dict[str, Message]


def spoilt(
    changes: tuple[Change, ...], honest: Callable[[Message], Message]
) -> list[tuple[str, Callable[[Asked], Message]]]:
    """Return bad sites, each with its reply to what it was asked: an honest one, changed."""

    def reply_of(site: str, change: Change) -> Callable[[Asked], Message]:
        def reply(asked: Asked) -> Message:
            made = honest(asked[site])
            change(made.content)
            return made

        return reply

    return [(site, reply_of(site, change)) for site, change in zip(BAD, changes, strict=True)]


@settings(max_examples=300)
@given(st.tuples(bad_extras, bad_extras, bad_extras), st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_no_bad_extra_changes_what_the_coordinator_keeps(
    journals: Callable[..., Journal], changes: tuple[Change, ...], order: list[int]
) -> None:
    experiment = experiment_of(method="fedavg_la_global")
    bad = spoilt(changes, lambda asked: answer(asked, 10.0, {"class_counts": COUNTS}))
    sent = MODEL | {"class_weights": np.ones(2, np.float32)}
    good = {"class_counts": COUNTS}
    strategy, reported = check_round(
        experiment, journals(experiment), bad, order, sent, lambda m, i: answer(m, 0.1 * i, good)
    )
    assert len(reported) == len(BAD)
    assert sorted(strategy._method.state()) == list(GOOD)


@settings(max_examples=60)
@given(st.tuples(*[bad_gradients] * 3), st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_no_bad_gradient_changes_the_re_trained_head(
    journals: Callable[..., Journal], changes: tuple[Change, ...], order: list[int]
) -> None:
    small = {"creff_features": 2, "creff_match_steps": 2, "creff_retrain_epochs": 1}
    experiment = experiment_of(method="creff", **small)
    bad = spoilt(changes, lambda asked: answer(asked, 10.0, {"class_gradients": 5 * GRADIENTS}))
    sent = MODEL | {"retrained_head.weight": np.ones((2, 4), np.float32)}
    good = {"class_gradients": GRADIENTS}
    check_round(experiment, journals(experiment), bad, order, sent, lambda m, i: answer(m, 0.1 * i, good))


def of_several(message: Message, shift: float) -> Message:
    """Answer as a site whose images have several labels."""
    made = answer(message, shift)
    del made.content["metrics"]["hits-arrival"]
    made.content["metrics"]["macro_auc-arrival"], made.content["metrics"]["undefined_auc-arrival"] = 0.7, 1
    return made


@settings(max_examples=60)
@given(st.tuples(*[bad_several] * 3), st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_no_bad_figure_of_several_labels_is_taken(
    journals: Callable[..., Journal], changes: tuple[Change, ...], order: list[int]
) -> None:
    experiment = experiment_of(local_epochs=2)  # a key of its own for what good replies make
    bad = spoilt(changes, lambda asked: of_several(asked, 10.0))
    strategy, _ = check_round(
        experiment, journals(experiment), bad, order, MODEL, lambda m, i: of_several(m, 0.1 * i), multilabel=True
    )
    assert sorted(strategy._round.arrival) == list(GOOD)
