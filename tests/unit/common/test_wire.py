from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from common import wire
from common.config import Experiment, build
from common.errors import UserError
from common.hello import Hello, hello_reply, read_hello
from common.installed import check_installed
from common.methods import METHODS
from server_app.grids.local_grid import LocalGrid

DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.uint8])


@pytest.fixture(autouse=True)
def _process_identity() -> None:
    LocalGrid(lambda message, context: message, 0)  # Flower stamps messages with the process's identity


def message_with(**content: Any) -> Message:
    return Message(wire.request(build({}), run="r", server_round=1, **content), 1, wire.TRAIN)


@settings(deadline=None)
@given(array=DTYPES.flatmap(lambda d: arrays(d, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))))
def test_arrays_cross_bit_by_bit(array: np.ndarray) -> None:
    LocalGrid(lambda message, context: message, 0)
    back = wire.Request(message_with(model=wire.pack({"w": array}))).model["w"]
    assert back.dtype == array.dtype and back.shape == array.shape and back.tobytes() == array.tobytes()


def test_a_request_says_everything_a_site_needs(tiny: Callable[..., Experiment]) -> None:
    experiment = tiny(method="fedavg", seed=3, rounds=4)
    frame = np.eye(3, dtype=np.float32)
    content = wire.request(
        experiment, run="r1", server_round=4, rate=0.25, evaluate=True, frame=frame, frame_hash="abc"
    )
    request = wire.Request(Message(content, 1, wire.TRAIN))
    assert request.experiment == experiment
    assert (request.run, request.round, request.evaluate, request.frame_hash) == ("r1", 4, True, "abc")
    assert request.rate == 0.25
    assert np.array_equal(request.frame, frame) and request.sites_dir is None and request.model == {}


def test_a_reply_comes_back() -> None:
    ones = {"backbone.w": np.ones(3, np.float32)}
    sent = message_with(model=wire.pack(ones))
    reply = wire.Reply(wire.metrics_reply(sent, {"num-examples": 5}, ones, "abc"))
    assert reply.metrics == {"num-examples": 5.0} and reply.frame_hash == "abc"
    assert reply.model["backbone.w"].tolist() == [1, 1, 1] and reply.num_bytes > 12
    assert wire.Reply(wire.metrics_reply(sent, {})).model == {}


@pytest.mark.parametrize("name", METHODS)
def test_a_site_makes_no_reply_with_anything_else(name: str) -> None:
    row, array = METHODS[name], np.ones(3, np.float32)
    parts = {"backbone", *row.parts, *row.shared, "head", "frame"}
    came = {f"{part}.w": array for part in parts}
    sent = Message(wire.request(build({"method": name}), run="r", model=wire.pack(came)), 1, wire.TRAIN)
    extras = dict.fromkeys(row.extras, array)
    metrics = {"num-examples": 5, "num-test": 2, "loss-backbone": 1.0, "hits-arrival": 1, "auc_few-finetuned": 0.5}
    shared = {f"{part}.w": array for part in row.shared}
    reply = wire.Reply(wire.metrics_reply(sent, metrics, shared, "", extras))
    assert reply.model.keys() == shared.keys() and reply.extras.keys() == extras.keys()
    assert reply.metrics == metrics
    for odd in ("hits", "hits-cat", "loss-Smith", "label", "num-examples-cat", "accuracy-arrival"):
        with pytest.raises(wire.WireError, match=f"'{odd}' is nothing that a site sends here"):
            wire.metrics_reply(sent, metrics | {odd: 1.0}, shared, "", extras)
    for odd in [f"{part}.w" for part in parts - {*row.shared}] + ["backbone.else", "images"]:
        with pytest.raises(wire.WireError, match=f"'{odd}' is nothing"):
            wire.metrics_reply(sent, metrics, shared | {odd: array}, "", extras)
    for odd in {"images", *wire.EXTRAS} - {*row.extras}:
        with pytest.raises(wire.WireError, match=f"'{odd}' is nothing"):
            wire.metrics_reply(sent, metrics, shared, "", extras | {odd: array})


def test_metrics_by_class_come_at_the_end_alone() -> None:
    by_class = {"final": np.array([0.5, np.nan]), "finetuned": np.ones(2)}
    sent = Message(wire.request(build({}), run="r"), 1, wire.PERSONALISE)
    answer = wire.metrics_reply(sent, {}, class_metrics=by_class)
    reply = wire.Reply(answer)
    assert {stage: values.tolist() for stage, values in reply.class_metrics.items()}.keys() == by_class.keys()
    np.testing.assert_array_equal(reply.class_metrics["final"], by_class["final"])
    assert wire.extras_of(answer) == [wire.CLASS_METRICS] and wire.extras_of(wire.metrics_reply(sent, {})) == []
    with pytest.raises(wire.WireError, match="'arrival' is nothing that a site sends here"):
        wire.metrics_reply(sent, {}, class_metrics={"arrival": np.ones(2)})
    with pytest.raises(wire.WireError, match="'final' is nothing that a site sends here"):
        wire.metrics_reply(message_with(), {}, class_metrics=by_class)


def test_failures_and_strangers_are_said_in_one_line() -> None:
    sent = message_with()
    failed = Message(Error(3, 'Traceback…\n  File "x"\ncommon.errors.UserError: no images\n'), reply_to=sent)
    with pytest.raises(wire.WireError, match=r"^no images$"):
        wire.Reply(failed)
    with pytest.raises(wire.WireError, match="not a reply of FedNC's client"):
        wire.Reply(Message(sent.content, reply_to=sent))
    with pytest.raises(wire.WireError, match="another app's code"):
        read_hello(Message(sent.content, reply_to=sent))


def test_hello_names_site_and_counts() -> None:
    hello = read_hello(hello_reply(message_with(), site="north", num_train=7, num_test=2))
    assert hello == Hello("north", 7, 2)


@pytest.mark.parametrize("name", ["", " north", "a/b", "..", "no\u202erth", "e\u0301st", "x" * 65, "<b>"])
def test_a_site_of_an_unusable_name_is_refused(name: str) -> None:
    with pytest.raises(wire.WireError, match="a site of no usable name"):
        read_hello(hello_reply(message_with(), site=name, num_train=7, num_test=2))


def test_the_frames_hash_depends_on_every_bit_and_the_shape() -> None:
    frame = np.zeros((2, 3), np.float32)
    other = frame.copy()
    other[1, 2] = np.nextafter(np.float32(0), np.float32(1))
    digests = {wire.frame_digest(f) for f in (frame, other, frame.reshape(3, 2))}
    assert len(digests) == 3


def test_another_apps_module_is_refused(tmp_path: Any) -> None:
    check_installed(wire.__file__)
    with pytest.raises(UserError, match="client_app hides FedNC's package client_app in"):
        check_installed(str(tmp_path / "client_app" / "app.py"))
