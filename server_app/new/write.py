"""An experiment as YAML with a comment behind every key: what was found, what was chosen and why."""

import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from common.config import ROWS
from common.config.sections import SECTIONS
from common.errors import one_line
from common.methods import METHODS
from server_app.new.choose import Choice, Choices

_COLUMN = 34  # where comments begin


def as_yaml(found: Sequence[str], choices: Choices, methods: Sequence[str], name: str) -> str:
    """Return the file's text: the method, then each section with its keys.

    Args:
        found: lines about the data, for the top.
        choices: key → its value and why; a value of None is written as a comment that says what holds then.
        methods: that take the data.
        name: of the file, for the commands.
    """
    lines = [f"# {one_line(line)}" for line in found]
    quoted = shlex.quote(name)
    lines += ["#", f"#   fednc run {quoted}", f"#   fednc compare {quoted} --methods {','.join(_few(methods))}"]
    lines += ["#", "# configs/README.md lists every key; one may also stand behind the command: fednc run … rounds=5"]
    lines += ["", _line("method", choices["method"]), "# others that take these images:"]
    lines += [f"#   {other:<18} {METHODS[other].title}" for other in methods if other != choices["method"].value]
    for section, model in SECTIONS.items():
        own = {key: choice for key, choice in choices.items() if key in ROWS and ROWS[key].section == section}
        if own:
            lines += ["", f"{f'{section}:':<{_COLUMN}} # {model.__doc__}"]
            lines += [f"  {_line(key, choice, _COLUMN - 2)}" for key, choice in own.items()]
    if "tuned" in choices:
        lines += ["", _line("tuned", choices["tuned"])]
    return "\n".join(lines) + "\n"


def _few(methods: Sequence[str]) -> list[str]:
    """Return the methods of a first comparison."""
    return [
        name
        for name in ("fedavg", "fedavg_la", "fedrod", "fedetf", "fedloge", "fednca_ml", "fedloge_ml")
        if name in methods
    ]


def _line(key: str, choice: Choice, column: int = _COLUMN) -> str:
    if choice.value is None:
        return f"# {key}: {'…':<{max(1, column - len(key) - 4)}} # {one_line(choice.why)}"
    return f"{f'{key}: {_scalar(choice.value)}':<{column}} # {one_line(choice.why)}"


def _scalar(value: Any) -> str:
    """Return a value as YAML writes it on one line."""
    text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def described(key: str) -> str:
    """Return what is known of a key."""
    return ROWS[key].about
