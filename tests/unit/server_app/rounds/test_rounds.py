"""A round's metrics, where some sites tell less than others."""

import pytest

from server_app.rounds.round import Round


def test_the_mean_loss_is_over_the_images_of_those_that_tell_it() -> None:
    now = Round(1, ["east", "north", "west"])
    now.add_loss("backbone", 2.0, 30)
    now.add_loss("backbone", 4.0, 10)
    now.add_loss("aux_head", 1.5, 10)
    assert now.mean_losses() == {"backbone": pytest.approx(2.5), "aux_head": 1.5}
    assert Round(2, ["east"]).mean_losses() == {}


def test_where_models_are_needed_it_is_said_how_many_came() -> None:
    now = Round(3, list("abcde"))
    now.answered, now.steps = list("abcd"), {"a": 1.0, "b": 1.0}  # two have no images
    assert now.usable(0) == "round 3: 4 of 5 replies could be used"
    assert now.usable(3) == "round 3: 4 of 5 replies could be used, 2 of them with a model"


def failed(asked: str, answered: str, diverged: str) -> Round:
    now = Round(1, list(asked))
    now.answered, now.diverged = list(answered), set(diverged)
    return now


def test_a_round_is_not_repeated_where_the_same_sites_would_diverge_again() -> None:
    assert failed("abc", "", "abc").would_repeat([], ["a", "b", "c"])
    assert failed("abc", "a", "bc").would_repeat([], ["a", "b", "c"])
    assert not failed("abc", "", "abc").would_repeat([], ["a", "b", "d"])  # others are asked
    assert not failed("abc", "", "bc").would_repeat([], ["a", "b", "c"])  # one was silent
    assert not failed("abc", "", "").would_repeat([], ["a", "b", "c"])
    assert not failed("abc", "abc", "").would_repeat([], ["a", "b", "c"])  # too few had images


def test_real_sites_diverge_twice_before_they_are_believed() -> None:
    first = failed("abc", "a", "bc")
    assert not first.would_repeat([], None)
    assert failed("abc", "a", "bc").would_repeat([first], None)
    assert not failed("abc", "b", "ac").would_repeat([first], None)
    assert not failed("abc", "", "bc").would_repeat([failed("abc", "", "bc")], None)


def test_what_the_coordinator_made_of_all_may_diverge_too() -> None:
    now = failed("ab", "ab", "")
    now.mean_diverged = True
    assert now.would_repeat([], ["a", "b"]) and not now.would_repeat([], None)
    assert now.divergence_advice([]).endswith("a smaller learning-rate may help")
