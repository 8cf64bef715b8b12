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
