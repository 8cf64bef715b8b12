"""A round's figures, where some sites tell less than others."""

import pytest

from server_app.rounds import Round


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
