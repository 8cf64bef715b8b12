from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from common import hello, wire
from common.config import Experiment
from common.hello import hello_reply, read_hello
from server_app.engines.engines import load_client_app
from server_app.grids.local_grid import LocalGrid
from server_app.sites.discovery import SiteFacts, admit, discover_sites

Tiny = Callable[..., Experiment]


def test_greeting_names_every_site(tiny: Tiny) -> None:
    sites = discover_sites(LocalGrid(load_client_app(), 3), tiny(), timeout=60)
    assert sorted(sites) == ["site-00", "site-01", "site-02"]
    assert all(facts.num_train > 0 and facts.num_test > 0 and not facts.has_frame for facts in sites.values())


def test_a_node_beyond_the_federation_is_left_out_and_told_what_to_do(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    sites = discover_sites(LocalGrid(load_client_app(), 4), tiny(), timeout=60)
    assert sorted(sites) == ["site-00", "site-01", "site-02"]
    assert "node 4 left out: partition-id = 3: this federation has sites 0 to 2" in caplog.text


def test_without_sites_there_is_no_run(tiny: Tiny) -> None:
    with pytest.raises(wire.WireError, match="none is connected"):
        discover_sites(LocalGrid(load_client_app(), 0), tiny(), timeout=60)


def answering(**facts: Any) -> ClientApp:
    app = ClientApp()

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        return hello_reply(message, **{"site": "north", "num_train": 1, "num_test": 1} | facts)

    return app


def test_of_two_sites_of_one_name_none_takes_part(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(wire.WireError, match="two sites call themselves 'north': give each its own name"):
        discover_sites(LocalGrid(answering(), 2), tiny(), timeout=60)
    assert "node 1 left out: two sites" in caplog.text and "node 2 left out: two sites" in caplog.text


def naming(*names: str) -> ClientApp:
    app = ClientApp()

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        name = names[int(context.node_config["partition-id"])]  # type: ignore[arg-type]
        return hello_reply(message, site=name, num_train=1, num_test=1)

    return app


@pytest.mark.parametrize("other", ["North", "n\u043erth", "no rth"])
def test_of_two_sites_whose_names_look_alike_none_takes_part(
    other: str, tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    sites = discover_sites(LocalGrid(naming("south", "north", other), 3), tiny(), timeout=60)
    assert list(sites) == ["south"]
    assert f"'{other}' looks like 'north', another site" in caplog.text
    assert f"'north' looks like '{other}', another site" in caplog.text


def test_a_site_that_is_known_stays_when_one_of_a_like_name_comes(tiny: Tiny) -> None:
    sites = {"north": SiteFacts(7, 1, 1)}
    reasons = admit(LocalGrid(naming("North"), 1), tiny(), [1], 60, sites)
    assert list(sites) == ["north"] and "'North' looks like 'north', another site" in reasons[1]


def test_impossible_declarations_and_other_code_are_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(wire.WireError, match="declares -1 training"):
        discover_sites(LocalGrid(answering(num_train=-1), 1), tiny(), timeout=60)
    sent = Message(wire.request(tiny(), run=""), 1, wire.HELLO)
    answer = hello_reply(sent, site="north", num_train=1, num_test=1)
    monkeypatch.setattr(hello, "code_fingerprint", lambda: "newer")
    with pytest.raises(wire.WireError, match="north runs other code"):
        read_hello(answer)
