"""Generated bad configuration: each ends in one line that names the file; no traceback, no hang, little memory."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from faulty import mistake, must_fail
from hypothesis import given, settings
from hypothesis import strategies as st

from client_app.site.config import load_site_config
from common.config import KEYS, Experiment, build, load
from common.errors import UserError
from server_app.cli import parse_overrides

Write = Callable[[bytes | str], Path]
Config = Callable[[Path], object]
READERS = {"experiment": load, "site": load_site_config}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    path = tmp_path_factory.mktemp("given") / "exp.yaml"

    def write(content: bytes | str) -> Path:
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path

    return write


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=9), st.dates(),
    st.datetimes(), st.integers(10**300, 10**400), st.integers(-(2**130), 2**130),
    st.sampled_from(["", "..", "/", "~", "~nobody/x", "\x00", "\ud800", "a\nb", "x" * 5000, "/" + "y" * 300, "1e999"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4),
    max_leaves=4,
)


def check_usable(experiment: Experiment) -> None:
    """A configuration that was taken can be written and read again."""
    assert build(json.loads(json.dumps(experiment.dump(), allow_nan=False))) == experiment


@settings(max_examples=400)
@given(key=st.sampled_from(KEYS), value=values)
def test_any_value_of_any_key(key: str, value: Any) -> None:
    taken: list[Experiment] = []
    error_text = mistake(lambda: taken.append(build({key: value}, source="exp.yaml")), "exp.yaml")
    assert bool(taken) == (error_text is None)
    for experiment in taken:
        check_usable(experiment)


@settings(max_examples=100)
@given(content=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=9) | st.integers(), values, max_size=4))
def test_any_mapping_in_a_file(written: Write, content: dict[Any, Any]) -> None:
    path = written(yaml.safe_dump(content, allow_unicode=False))
    for read in READERS.values():
        mistake(lambda read=read: read(path), "exp.yaml")  # type: ignore[misc]


@settings(max_examples=200)
@given(
    content=st.binary(max_size=60)
    | st.text(max_size=60)
    | st.text(st.sampled_from("{}[]:,-*&!<|>?%@'\"#\n\t 0a~"), max_size=40)
    | st.builds(lambda word, how: word.encode(how), st.text(st.characters(codec="latin-1")), st.just("latin-1"))
    | st.builds(lambda how: "rounds: 3\n".encode(how), st.sampled_from(["utf-16", "utf-32", "cp037", "utf-8-sig"]))
)
def test_any_bytes_in_a_file(written: Write, content: bytes | str) -> None:
    path = written(content)
    for read in READERS.values():
        mistake(lambda read=read: read(path), "exp.yaml")  # type: ignore[misc]


def bomb(width: int, depth: int) -> str:
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth)]
    return "\n".join([*lines, f"rounds: *a{depth - 1}"])


BOMBS = {
    "aliases": bomb(9, 9),
    "merges": "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nrounds: {<<: [*b, *b]}",
    "itself": "rounds: &a [*a]",
    "lists": "rounds: " + "[" * 5_000,
    "closed lists": "rounds: " + "[" * 4_000 + "]" * 4_000,
    "mappings": "rounds: " + "{a: " * 3_000,
    "blocks": "- " * 5_000,
    "sixties": "rounds: 1" + ":59" * 4_000,
    "digits": "rounds: " + "9" * 9_000,
    "hexadecimal": "rounds: 0x" + "f" * 9_000,
    "exponent": "rounds: 1.0e+999999999",
    "keys": "\n".join(f"k{i}: 1" for i in range(500)),
    "a long text": "name: " + "x" * 9_000,
    "a long list": "classes: [" + "x," * 5_000 + "]",
    "too large": "# " + "x" * 10**7,
    "tag": "rounds: !!python/object/apply:os.system ['true']",
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_bombs_are_refused_in_little_memory(written: Write, read: Config, name: str) -> None:
    path = written(BOMBS[name])
    tracemalloc.start()
    try:
        must_fail(lambda: read(path), "exp.yaml")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=100)
@given(
    key=st.sampled_from(KEYS), text=st.text(max_size=30) | st.sampled_from([BOMBS["itself"], "[" * 2000, "{a: " * 900])
)
def test_any_word_on_the_command_line(written: Write, key: str, text: str) -> None:
    path = written("")

    def read() -> None:
        load(path, parse_overrides([f"{key}={text}"]), base=path.parent)

    mistake(read)


@settings(max_examples=100)
@given(
    changes=st.dictionaries(
        st.sampled_from(["name", "data", "test-share", "class-map", "state-dir", "cache", "policy", "kind"]), values
    ),
    policy=st.none() | st.dictionaries(st.sampled_from(["methods", "extras", "max-epochs", "min-images", "x"]), values),
)
def test_any_site_configuration(written: Write, changes: dict[str, Any], policy: Any) -> None:
    data = {"name": "west", "data": "exp.yaml", **changes} | ({"policy": policy} if policy is not None else {})
    path = written(yaml.safe_dump(data))
    mistake(lambda: load_site_config(path), "exp.yaml")


def test_an_error_is_one_line_that_any_terminal_can_show() -> None:
    error_text = str(UserError("a\nb\x1b[2J\udcff" + "x" * 10_000))
    assert error_text.isprintable() and error_text.startswith("a b [2J") and len(error_text) < 4100
