"""An experiment as YAML with a comment behind every key: what was found, what was chosen and why."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from common.config import ROWS
from common.errors import plain
from common.methods import METHODS
from server_app.new.choose import Choice

_COLUMN = 34  # where comments begin


def as_yaml(
    found: Sequence[str], sections: Mapping[str, Mapping[str, Choice]], methods: Sequence[str], name: str
) -> str:
    """Return the file's text.

    Args:
        found: lines about the data, for the top.
        sections: title → key → its value and why; a value of None is written as a comment that says what holds then.
        methods: that take the data.
        name: of the file, for the commands.
    """
    lines = [f"# {plain(line)}" for line in found]
    quoted = shlex.quote(name)
    lines += ["#", f"#   fednc run {quoted}", f"#   fednc compare {quoted} --methods {','.join(_few(methods))}"]
    lines += ["#", "# Every key of common/config/sections may stand here, or behind the command: fednc run … rounds=5"]
    for title, keys in sections.items():
        lines += ["", f"# --- {title}"]
        lines += [_line(key, choice) for key, choice in keys.items()]
        if title == "method":
            lines.append("# others that take these images:")
            lines += [f"#   {other:<18} {METHODS[other].title}" for other in methods if other != keys["method"].value]
    return "\n".join(lines) + "\n"


def _few(methods: Sequence[str]) -> list[str]:
    """Return the methods of a first comparison."""
    return [
        name
        for name in ("fedavg", "fedavg_la", "fedrod", "fedetf", "fedloge", "fednca_ml", "fedloge_ml")
        if name in methods
    ]


def _line(key: str, choice: Choice) -> str:
    if choice.value is None:
        return f"# {key}: {'…':<{max(1, _COLUMN - len(key) - 5)}} # {plain(choice.why)}"
    return f"{f'{key}: {_scalar(choice.value)}':<{_COLUMN}} # {plain(choice.why)}"


def _scalar(value: Any) -> str:
    """Return a value as YAML writes it on one line."""
    text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def described(key: str) -> str:
    """Return what is known of a key."""
    return ROWS[key].about
