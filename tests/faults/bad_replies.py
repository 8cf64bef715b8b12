"""Replies that are wrong in every way that came to mind, as hypothesis strategies."""

import pickle
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import strategies as st

from common import wire
from common.hello import hello_reply

Change = Callable[[RecordDict], None]
IMAGES, TESTED, ROUND = 7, 4, 5
GOOD, BAD = ("good-0", "good-1", "good-2", "good-3", "good-4"), ("bad-0", "bad-1", "bad-2")
NODES = {name: node for node, name in enumerate((*GOOD, *BAD), 1)}
STRANGE = ["\udcff\udcfe", "\x00", "\x1b[2Jgone", "two\nlines", "x" * 10_000, "", "<script>", "../..", "ü"]
MODEL = {
    "backbone.weight": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "backbone.norm.running_var": np.linspace(0.5, 1.5, 3, dtype=np.float32),
    "backbone.norm.num_batches_tracked": np.array(40, np.int64),
    "aux_head.weight": np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4),
}
FLOATS = ["backbone.weight", "aux_head.weight"]


def answer(message: Message, shift: float, extras: wire.Arrays | None = None, stage: str = "arrival") -> Message:
    model = {n: np.asarray(a + shift, a.dtype) if a.dtype.kind == "f" else a + 3 for n, a in MODEL.items()}
    figures = {"num-examples": IMAGES, "num-test": TESTED, f"hits-{stage}": 3, "loss-backbone": 0.5}
    return wire.metrics_reply(message, figures, model, "", extras)


def metric(name: str, value: Any) -> Change:
    def change(content: RecordDict) -> None:
        content["metrics"][name] = value

    return change


def figures_of_another_type(values: dict[str, Any]) -> Change:
    def change(content: RecordDict) -> None:
        content["metrics"] = ConfigRecord({**content["metrics"], **values})

    return change


def without(record: str, *names: str) -> Change:
    def change(content: RecordDict) -> None:
        for name in names:
            del content[record][name]
        if not names:
            del content[record]

    return change


def about(name: str, value: Any) -> Change:
    def change(content: RecordDict) -> None:
        content["config"][name] = value

    return change


def of_the_other_labels(value: float, stage: str, also: bool) -> Change:
    """Metrics of several labels an image where the others have one."""

    def change(content: RecordDict) -> None:
        for name in [] if also else [n for n in content["metrics"] if n.startswith("hits-")]:
            del content["metrics"][name]
        content["metrics"][f"macro_auc-{stage}"] = value

    return change


def many_losses(count: int) -> Change:
    """Beside the one that there is: a journal could be filled with names."""

    def change(content: RecordDict) -> None:
        for number in range(count):
            content["metrics"][f"loss-{'x' * (number + 1) if number < 32 else 'y' * (number - 31)}"] = 0.5

    return change


def other_record(name: str, record: Any) -> Change:
    def change(content: RecordDict) -> None:
        content[name] = record

    return change


def array(name: str, make: Callable[[np.ndarray], Any], as_name: str | None = None, record: str = "model") -> Change:
    def change(content: RecordDict) -> None:
        made = make(content[record][name].numpy().copy())
        content[record][name if as_name is None else as_name] = (
            made if isinstance(made, Array) else Array(np.asarray(made, order="C"))
        )

    return change


def placed(value: float, place: int, everywhere: bool) -> Callable[[np.ndarray], np.ndarray]:
    def make(values: np.ndarray) -> np.ndarray:
        values.reshape(-1)[slice(None) if everywhere else place % values.size] = value
        return values

    return make


def bytes_of(data: bytes, stype: str = "numpy.ndarray") -> Callable[[np.ndarray], Array]:
    return lambda values: Array(str(values.dtype), tuple(values.shape), stype, data)


def saved(values: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, values)
    return file.getvalue()


def archive() -> bytes:
    file = BytesIO()
    np.savez_compressed(file, a=np.zeros(1 << 20))
    return file.getvalue()


def lying(shape: str) -> bytes:
    """A file whose header promises more than there is."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\0" * 48


HUGE = st.floats(1e4, 1e9) | st.floats(-1e9, -1e4)  # the default `max-step` allows about 450 from MODEL
BEYOND = st.floats(2e9, 3e38) | st.floats(-3e38, -2e9)
PLACE = st.integers(0, 30)
NAME = st.sampled_from([*FLOATS, "backbone.norm.running_var"])
NEVER = st.sampled_from([np.nan, np.inf, -np.inf])

bad_arrays = st.one_of(
    st.builds(lambda n, v, p, e: array(n, placed(v, p, e)), NAME, NEVER | HUGE | BEYOND, PLACE, st.booleans()),
    st.builds(
        lambda v: array("backbone.norm.num_batches_tracked", lambda a: np.full_like(a, v)),
        st.integers(2 * 10**9, 2**63 - 1) | st.integers(-(2**63), -1),
    ),
    st.builds(
        lambda v, p, e: array("backbone.norm.running_var", placed(v, p, e)),
        st.floats(-3e38, -1e-30), PLACE, st.booleans(),
    ),
    st.builds(
        lambda n, t: array(n, lambda a: a.astype(t)),
        NAME,
        st.sampled_from(["f8", "f2", ">f4", "i4", "u1", "?", "c8", "U9", "S3"]),
    ),
    st.builds(
        lambda n, shape: array(n, lambda a: np.resize(a, shape)),
        NAME,
        st.sampled_from([(), (0,), (1,), (1, 1), (4, 3), (12,), (1, 3, 4), (3, 0), (0, 0, 0), (2, 5), (100, 100)]),
    ),
    st.builds(lambda n: without("model", n), st.sampled_from(sorted(MODEL))),
    st.just(without("model", *MODEL)) | st.just(without("model")),
    st.just(other_record("model", MetricRecord({"x": 1}))),
    st.builds(
        lambda n, other: array(n, lambda a: a, other),
        NAME,
        st.sampled_from(["frame", "backbone", "personal_head.weight", *STRANGE]) | st.text(max_size=9),
    ),
    st.builds(lambda n, k: array(n, lambda a: bytes_of(saved(a)[:k])(a)), NAME, st.integers(0, 139)),
    st.builds(
        lambda n, k, b: array(n, lambda a: bytes_of(saved(a)[:k] + b + saved(a)[k + len(b) :])(a)),
        NAME, st.integers(0, 50), st.binary(min_size=3, max_size=12).filter(lambda b: b[0] > 127),
    ),
    st.builds(
        lambda n, b: array(n, bytes_of(b)),
        NAME,
        st.binary(max_size=60)
        | st.sampled_from([archive(), pickle.dumps([1, 2]), lying("(10**6,)"), lying("(1000000000000, 9)")])
        | st.builds(lambda depth: lying("(" * depth), st.integers(1, 90)),
    ),
    st.builds(lambda n, s: array(n, lambda a: bytes_of(saved(a), s)(a)), NAME, st.sampled_from(["torch", "\udcff"])),
)  # fmt: skip

WEIGHTS = st.one_of(
    st.sampled_from([0, -1, -IMAGES, 0.0, 5e-324, IMAGES + 1, IMAGES + 0.5, 10**12, 2**63, 10**400, 1e308]),
    st.floats().filter(lambda v: v != IMAGES),
    st.integers().filter(lambda v: v != IMAGES),
    st.lists(st.integers(), max_size=3),
)
bad_figures = st.one_of(
    st.builds(lambda v: metric("num-examples", v), WEIGHTS),
    st.builds(lambda v: metric("num-test", v), st.sampled_from([0, -1, 3.5, 10**400, [4]]) | NEVER),
    st.builds(lambda v: metric("hits-arrival", v), st.floats(max_value=-1) | st.integers(5) | NEVER | st.just(1.5)),
    st.builds(lambda v: metric("loss-backbone", v), NEVER | BEYOND | st.lists(st.floats(), max_size=2)),
    st.builds(of_the_other_labels, st.floats(0, 1) | st.floats(), st.sampled_from(["arrival", "final"]), st.booleans()),
    st.builds(
        lambda n, v: metric(n, v), st.sampled_from(["accuracy", "loss-", "hits-", "loss-a\nb", *STRANGE]), st.floats()
    ),
    st.builds(lambda n: without("metrics", n), st.sampled_from(["num-examples", "num-test"]))
    | st.just(without("metrics")),
    st.builds(
        lambda v: figures_of_another_type({"num-examples": v}),
        st.sampled_from([str(IMAGES), b"7", True, [IMAGES], [], "NaN", *STRANGE]),
    ),
    st.just(other_record("metrics", ArrayRecord({"num-examples": Array(np.ones(1))}))),
    st.just(other_record("metrics", MetricRecord())),
    st.just(other_record("metrics", MetricRecord({f"loss-{n:x}": 1.0 for n in range(2000)}))),
    st.builds(many_losses, st.integers(8, 50)),
    st.builds(
        lambda stage, values: other_record("class-metrics", wire.pack({stage: values})),
        st.sampled_from(["arrival", *wire.STAGES]),
        st.sampled_from([np.ones(3), np.ones((2, 1)), np.ones(2, np.float32), np.ones(2, np.int64), np.float64(1)])
        | st.floats().filter(lambda v: not (0 <= v <= 1 or np.isnan(v))).map(lambda v: np.array([0.5, v])),
    ),
    st.just(other_record("class-metrics", wire.pack({"personal": np.ones(2)}))),
    st.just(other_record("class-metrics", MetricRecord({"final": 0.5}))),
)
bad_words = st.one_of(
    st.builds(lambda v: about("round", v), st.sampled_from([ROUND - 1, 0, -1, ROUND + 1, 10**30, "5", b"5", [5]])),
    st.builds(lambda v: about("round", v), st.floats().filter(lambda v: v != ROUND)),
    st.builds(lambda v: about("frame-hash", v), st.sampled_from([b"\xff", 3, [""], True])),
    st.builds(lambda n, v: about(n, v), st.sampled_from(["experiment", *STRANGE]), st.sampled_from(STRANGE)),
    st.just(without("config")) | st.just(without("config", "round")) | st.just(without("config", "frame-hash")),
    st.builds(lambda n: other_record(n, MetricRecord({"x": 1})), st.sampled_from(["frame", "images", *STRANGE])),
    st.just(other_record("config", MetricRecord({"round": 5}))),
)  # fmt: skip
BAD_CONTENT = st.one_of(bad_arrays, bad_figures, bad_words)


@st.composite
def bad_replies(draw: st.DrawFn, site: str) -> tuple[str, Callable[[dict[str, Message]], Message]]:
    """Return the name that the journal must give, and what makes the reply of a round's messages."""
    kind = draw(st.sampled_from(["content"] * 9 + ["error", "empty", "stranger"]))
    if kind == "content":
        changes = draw(st.lists(BAD_CONTENT, min_size=1, max_size=2))

        def reply(asked: dict[str, Message]) -> Message:
            made = answer(asked[site], 10.0)
            changes[0](made.content)
            for change in changes[1:]:
                with suppress(Exception):  # the first one may have broken what the second one would change
                    change(made.content)
            return made

        return site, reply
    if kind == "error":
        words = draw(st.sampled_from([*STRANGE, "y" * 10**6]) | st.text(st.characters()))
        return site, lambda asked: Message(Error(3, words), reply_to=asked[site])
    if kind == "empty":
        return site, lambda asked: Message(RecordDict(), reply_to=asked[site])
    node = draw(st.integers(100, 2**62))

    def stranger(asked: dict[str, Message]) -> Message:
        made = answer(asked[site], 10.0)
        made.metadata.__dict__["_src_node_id"] = node
        return made

    return f"node {node}", stranger


@st.composite
def bad_hellos(draw: st.DrawFn) -> Callable[[Message], Message]:
    """Return what makes an answer to hello that no site can take part with."""
    key, value = draw(
        st.one_of(
            st.tuples(
                st.just("site"), st.sampled_from(["\udcff\udcfe", "\x00", "two\nlines", "x" * 129, "", b"a", 1, [""]])
            ),
            st.tuples(
                st.sampled_from(["num-train", "num-test"]),
                st.integers(max_value=-1) | st.floats() | st.booleans() | st.text(max_size=3) | st.just([1]),
            ),
            st.tuples(st.just("code"), st.sampled_from(["", "0" * 64, "\udcff", 1])),
            st.sampled_from([("", "error"), ("", "empty"), ("site", None), ("num-train", None), ("code", None)]),
        )
    )

    def reply(asked: Message) -> Message:
        if value == "error":
            return Message(Error(3, "\udcff"), reply_to=asked)
        made = hello_reply(asked, site="bad", num_train=1, num_test=1)
        if value == "empty":
            return Message(RecordDict(), reply_to=asked)
        if value is None:
            del made.content["config"][key]
        else:
            made.content["config"][key] = value
        return made

    return reply
