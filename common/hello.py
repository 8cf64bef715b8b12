"""The first message of `common/wire.py`: a site says who it is, how many images it has, and what code it runs."""

from dataclasses import dataclass
from typing import Any, cast

from flwr.app import ConfigRecord, Message, RecordDict

from common.errors import WireError, short_repr
from common.installed import code_fingerprint
from common.names import site_name
from common.wire import CONFIG, refuse_error


def hello_reply(message: Message, *, site: str, num_train: int, num_test: int) -> Message:
    """Answer hello: who the site is and how many images it has."""
    config = {"site": site, "num-train": num_train, "num-test": num_test, "code": code_fingerprint()}
    return Message(RecordDict({CONFIG: ConfigRecord(cast(Any, config))}), reply_to=message)


@dataclass(frozen=True)
class Hello:
    """What a site says of itself: its name and how many images it has."""

    site: str
    num_train: int
    num_test: int


def read_hello(message: Message) -> Hello:
    """Read a hello reply.

    Raises:
        WireError: the node failed, is not FedNC's client, or runs another version of it.
    """
    refuse_error(message)
    try:
        config = message.content[CONFIG]
        site, *counts, code = (config[key] for key in ("site", "num-train", "num-test", "code"))
        if not isinstance(site, str) or [type(count) for count in counts] != [int, int]:
            raise TypeError
        hello = Hello(site, *cast(list[int], counts))
    except Exception:  # as of a reply
        raise WireError("it is not FedNC's client: another app's code was loaded there") from None
    try:
        usable = site_name(site) == site
    except ValueError:
        usable = False
    if not usable:
        raise WireError(f"a site of no usable name: {short_repr(site)}")
    if code != code_fingerprint():
        raise WireError(f"{hello.site} runs other code than the coordinator: install the same version on both")
    if min(hello.num_train, hello.num_test) < 0:
        raise WireError(f"site '{hello.site}' declares {hello.num_train} training and {hello.num_test} test images")
    return hello
