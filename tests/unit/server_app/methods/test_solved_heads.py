"""What the coordinator takes as sums of features, and which sums are in its head."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from common.closed_form.ridge import members_of
from common.closed_form.sums import ImageSums, packed_length
from common.config import Experiment
from common.data import build_federation
from common.files import arrays_digest
from server_app.aggregation.values import BadReplyError
from server_app.methods import ServerMethod
from server_app.methods import load as load_server
from server_app.run.journal import quiet_logging

Tiny = Callable[..., Experiment]
D, C = 6, 10
BROADCAST = {"aux_head.weight": np.zeros((C, D), np.float32), "aux_head.bias": np.zeros(C, np.float32)}


def sums(seed: int, images: int = 40) -> dict[str, npt.NDArray[Any]]:
    generator = torch.Generator().manual_seed(seed)
    found = ImageSums(C, D, 64)
    labels = torch.randint(C, (images,), generator=generator)
    found.add(torch.randn(images, D, generator=generator) + labels[:, None] / 4, members_of(labels, C))
    return {"feature_sums": found.packed()}


@pytest.fixture
def method(tiny: Tiny) -> ServerMethod:
    experiment = tiny(method="fedridge")
    return load_server("fedridge")(experiment, build_federation(experiment))


def answered(method: ServerMethod, replies: dict[str, dict[str, npt.NDArray[Any]]], server_round: int = 1) -> Any:
    method.begin()
    for site, extras in replies.items():
        method.add_extras(site, extras)
    return method.finish(BROADCAST, {}, server_round)


def test_a_second_answer_replaces_the_first_and_nothing_is_counted_twice(method: ServerMethod, tiny: Tiny) -> None:
    answered(method, {"a": sums(1), "b": sums(2)})
    parts, facts = answered(method, {"a": sums(3)}, 2)
    fresh = load_server("fedridge")(method.experiment, method.federation)
    expected, others = answered(fresh, {"b": sums(2), "a": sums(3)})
    assert {name: array.tobytes() for name, array in parts.items()} == {n: a.tobytes() for n, a in expected.items()}
    assert facts == others and sum(facts["images"]) == 80


def test_what_is_held_need_not_come_again(method: ServerMethod) -> None:
    assert method.held("a") == ""
    first, _ = answered(method, {"a": sums(1)})
    assert method.held("a") == arrays_digest(sums(1))
    parts, facts = method.finish(first, {}, 2)
    method.begin()
    method.add_extras("a", {})
    parts, facts = method.finish(first, {}, 2)
    assert facts == {} and all(np.array_equal(parts[name], first[name]) for name in first)


def test_a_repeated_round_forgets_what_the_failed_one_collected(method: ServerMethod) -> None:
    method.begin()
    method.add_extras("a", sums(1))
    method.begin()
    assert method.finish(BROADCAST, {}, 1)[0].keys() == BROADCAST.keys() and method.state() == {}


def test_a_restored_state_solves_the_same_head(method: ServerMethod) -> None:
    answered(method, {"a": sums(1), "b": sums(2)})
    other = load_server("fedridge")(method.experiment, method.federation)
    other.restore(method.state())
    ours, theirs = method.personal_sums(), other.personal_sums()
    assert ours.keys() == {*method.row.sums}
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


GOOD = sums(1)["feature_sums"]


def _with(place: tuple[int, int], value: int) -> npt.NDArray[np.int64]:
    spoilt = GOOD.copy()
    spoilt[place] = value
    return spoilt


@pytest.mark.parametrize(
    ("extras", "why"),
    [
        ({}, "nothing came where feature_sums int64"),
        ({"feature_sums": GOOD.astype(np.float64)}, "float64"),
        ({"feature_sums": GOOD[:, 1:]}, rf"int64\({C}, {packed_length(D + 1) - 1}\) came"),
        ({"feature_sums": GOOD[:-1]}, "came where"),
        ({"feature_sums": GOOD, "class_counts": np.zeros(C, np.float32)}, "class_counts"),
        ({"feature_sums": _with((0, -1), 7)}, "no number of images"),
        ({"feature_sums": _with((0, 0), 1 << 62)}, "larger than"),
        ({"feature_sums": 2 * GOOD}, "of 80 images, where the site declared 40"),
        ({"feature_sums": 0 * GOOD}, "of 0 images, where the site declared 40"),
    ],
)
def test_what_can_be_no_sums_of_the_sites_images_is_refused(
    method: ServerMethod, extras: dict[str, npt.NDArray[Any]], why: str
) -> None:
    method.check({"feature_sums": GOOD}, BROADCAST, 40)
    with pytest.raises(BadReplyError, match=why):
        method.check(extras, BROADCAST, 40)


def test_a_label_that_a_site_does_not_know_has_no_images(tiny_for: Tiny) -> None:
    experiment = tiny_for("fedridge", True)
    several = load_server("fedridge")(experiment, build_federation(experiment))
    labels = torch.rand(30, C, generator=torch.Generator().manual_seed(0)) < 0.4
    known = torch.tensor([True] * 9 + [False])
    found = ImageSums(2 * C, D, 64)
    found.add(torch.randn(30, D), members_of(labels, C, known))
    several.check({"feature_sums": found.packed()}, BROADCAST, 30)
    spoilt = found.packed().copy()
    spoilt[0] = 0  # positives alone are gone
    with pytest.raises(BadReplyError, match="where the site declared 30"):
        several.check({"feature_sums": spoilt}, BROADCAST, 30)


def test_a_class_that_nobody_has_is_named(method: ServerMethod, capsys: pytest.CaptureFixture[str]) -> None:
    quiet_logging()
    method.begin()
    generator = torch.Generator().manual_seed(4)
    found, labels = ImageSums(C, D, 64), torch.randint(C - 1, (40,), generator=generator)
    found.add(torch.randn(40, D, generator=generator), members_of(labels, C))
    method.add_extras("a", {"feature_sums": found.packed()})
    parts, _ = method.finish(BROADCAST, {}, 1)
    assert "no site has an image of: class '9'" in capsys.readouterr().out
    assert np.abs(parts["aux_head.weight"][C - 1]).max() < 1e-9


def test_bytes_are_known_beforehand(method: ServerMethod) -> None:
    assert method.extras_bytes(BROADCAST) == GOOD.nbytes
