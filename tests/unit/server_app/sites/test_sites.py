from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from common import wire
from common.config import Experiment, build
from server_app.engines.engines import load_client_app
from server_app.grids.local_grid import LocalGrid
from server_app.sites.discovery import BadReplyError, SiteFacts, check_reply, figure_names, greet, meet

Tiny = Callable[..., Experiment]
SITE = SiteFacts(node_id=1, num_train=5, num_test=4)
GOOD = {"num-examples": 5, "num-test": 4, "hits-arrival": 3, "loss-backbone": 1.5}
NAN, INF = float("nan"), float("inf")
ARRIVAL = figure_names(("arrival",), multilabel=False)
END = figure_names(wire.STAGES, multilabel=False)
SEVERAL = figure_names(("arrival",), multilabel=True)


def reply_of(metrics: dict[str, Any], model: bool = True) -> wire.Reply:
    LocalGrid(ClientApp(), 0)  # Flower stamps messages with the process's identity
    arrays = {"backbone.w": np.ones(2, np.float32)}
    sent = Message(wire.request(build({}), run="", model=wire.pack(arrays)), 1, wire.TRAIN)
    return wire.Reply(wire.metrics_reply(sent, metrics, arrays if model else None))


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def test_a_reply_that_agrees_is_taken() -> None:
    check_reply(reply_of(GOOD), SITE, ARRIVAL, trains=True)
    check_reply(reply_of({"num-examples": 5}), SITE, frozenset(), trains=True)  # not asked to evaluate
    check_reply(reply_of({"num-examples": 0}, model=False), SiteFacts(1, 0, 4), ARRIVAL, trains=True)
    check_reply(reply_of({"num-examples": 5, "num-test": 4, "hits-final": 0}, model=False), SITE, END, trains=False)


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (GOOD | {"num-examples": NAN}, "num-examples = nan: not finite"),
        (GOOD | {"num-examples": INF}, "num-examples = inf"),
        (GOOD | {"num-examples": 10**12}, "declared 5"),
        (GOOD | {"num-examples": -5}, "declared 5"),
        (GOOD | {"loss-backbone": NAN}, "loss-backbone = nan"),
        (GOOD | {"hits-arrival": NAN}, "hits-arrival = nan"),
        (GOOD | {"hits-arrival": 10**9}, "the site has 4 test images"),
        (GOOD | {"hits-arrival": -1}, "the site has 4 test images"),
        (GOOD | {"hits-arrival": 2.5}, "hits-arrival = 2.5"),
        (GOOD | {"num-test": 3}, "num-test = 3.0: the site declared 4"),
        (without("num-test"), "num-test = None"),
        (without("num-examples"), "num-examples = None"),
        (GOOD | {"hits-final": 1}, "'hits-final' is no figure that a site is asked for here"),
        (without("hits-arrival") | {"macro_auc-arrival": 0.5}, "'macro_auc-arrival' is no figure"),
        (GOOD | {f"loss-{word * n}": 1.0 for n in range(1, 32) for word in "ab"}, "66 figures, where at most 64"),
    ],
)
def test_a_reply_that_disagrees_is_refused(metrics: dict[str, Any], words: str) -> None:
    with pytest.raises(BadReplyError, match=words):
        check_reply(reply_of(metrics), SITE, ARRIVAL, trains=True)


def test_figures_are_those_of_the_labels_an_image_has() -> None:
    """One that has other figures than the others' would otherwise end the run where their mean is taken."""
    several = {"num-examples": 5, "num-test": 4, "macro_auc-arrival": 0.5, "undefined_auc-arrival": 3}
    check_reply(reply_of(several), SITE, SEVERAL, trains=True)
    for odd in ({"macro_auc-arrival": 1.01}, {"mean_ap-arrival": NAN}, {"hits-arrival": 3}, {"macro_auc-final": 0.5}):
        with pytest.raises(BadReplyError, match=next(iter(odd))):
            check_reply(reply_of(several | odd), SITE, SEVERAL, trains=True)


def test_a_model_comes_exactly_where_there_was_something_to_train_on() -> None:
    with pytest.raises(BadReplyError, match="no model came back"):
        check_reply(reply_of(GOOD, model=False), SITE, ARRIVAL, trains=True)
    with pytest.raises(BadReplyError, match="a model without training images"):
        check_reply(reply_of({"num-examples": 0}), SiteFacts(1, 0, 4), ARRIVAL, trains=True)
    with pytest.raises(BadReplyError, match="num-test = None"):
        check_reply(reply_of({"num-examples": 5}, model=False), SITE, END, trains=False)


def test_greeting_names_every_site(tiny: Tiny) -> None:
    sites = greet(LocalGrid(load_client_app(), 3), tiny(), timeout=60)
    assert sorted(sites) == ["site-00", "site-01", "site-02"]
    assert all(facts.num_train > 0 and facts.num_test > 0 and not facts.has_frame for facts in sites.values())


def test_a_node_beyond_the_federation_is_left_out_and_told_what_to_do(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    sites = greet(LocalGrid(load_client_app(), 4), tiny(), timeout=60)
    assert sorted(sites) == ["site-00", "site-01", "site-02"]
    assert "node 4 left out: partition-id = 3: this federation has sites 0 to 2" in caplog.text


def test_without_sites_there_is_no_run(tiny: Tiny) -> None:
    with pytest.raises(wire.WireError, match="none is connected"):
        greet(LocalGrid(load_client_app(), 0), tiny(), timeout=60)


def answering(**facts: Any) -> ClientApp:
    app = ClientApp()

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        return wire.hello_reply(message, **{"site": "north", "num_train": 1, "num_test": 1} | facts)

    return app


def test_of_two_sites_of_one_name_none_takes_part(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(wire.WireError, match="two sites call themselves 'north': give each its own name"):
        greet(LocalGrid(answering(), 2), tiny(), timeout=60)
    assert "node 1 left out: two sites" in caplog.text and "node 2 left out: two sites" in caplog.text


def naming(*names: str) -> ClientApp:
    app = ClientApp()

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        name = names[int(context.node_config["partition-id"])]  # type: ignore[arg-type]
        return wire.hello_reply(message, site=name, num_train=1, num_test=1)

    return app


@pytest.mark.parametrize("other", ["North", "n\u043erth", "no rth"])
def test_of_two_sites_whose_names_look_alike_none_takes_part(
    other: str, tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    sites = greet(LocalGrid(naming("south", "north", other), 3), tiny(), timeout=60)
    assert list(sites) == ["south"]
    assert f"'{other}' looks like 'north', another site" in caplog.text
    assert f"'north' looks like '{other}', another site" in caplog.text


def test_a_site_that_is_known_stays_when_one_of_a_like_name_comes(tiny: Tiny) -> None:
    sites = {"north": SiteFacts(7, 1, 1)}
    reasons = meet(LocalGrid(naming("North"), 1), tiny(), [1], 60, sites)
    assert list(sites) == ["north"] and "'North' looks like 'north', another site" in reasons[1]


def test_impossible_declarations_and_other_code_are_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(wire.WireError, match="declares -1 training"):
        greet(LocalGrid(answering(num_train=-1), 1), tiny(), timeout=60)
    sent = Message(wire.request(tiny(), run=""), 1, wire.HELLO)
    answer = wire.hello_reply(sent, site="north", num_train=1, num_test=1)
    monkeypatch.setattr(wire, "code_fingerprint", lambda: "newer")
    with pytest.raises(wire.WireError, match="north runs other code"):
        wire.read_hello(answer)
