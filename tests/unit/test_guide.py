"""Every command that the guides show exists, with the options that they give it."""

import re
import shlex

import click
import pytest
import typer
import yaml
from documents import DOCUMENTS, shell_lines
from flwr.cli.app import app as flwr

from client_app.cli import cli as fednc_site
from common.config import APP_ROOT, build
from common.models.standing import check_train_from
from common.models.weights import imagenet_file
from server_app.cli import cli as fednc

TOOLS = {
    name: typer.main.get_command(app) for name, app in (("fednc", fednc), ("fednc-site", fednc_site), ("flwr", flwr))
}
SHELL = re.compile(rf"(?:^|[\s`])((?:{'|'.join(sorted(TOOLS, key=len, reverse=True))}) [a-z].*)")


def commands() -> list[str]:
    """Return our commands, and Flower's, of all documents' shell examples."""
    lines = [line for path in DOCUMENTS for line in shell_lines(path)]
    found = [match.group(1) for line in lines if (match := SHELL.search(line))]
    return list(dict.fromkeys(re.split(r"\s{3,}|\s#|\s\|", line)[0] for line in found))


def test_the_guides_show_how_a_run_is_started_watched_stopped_and_checked() -> None:
    shown = " / ".join(commands())
    for words in ("fednc run", "fednc follow", "flwr ls", "flwr log", "flwr stop", "fednc-site check", "fednc export"):
        assert words in shown


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_guides_exists(line: str) -> None:
    name, *words = shlex.split(line)
    command: click.Command = TOOLS[name]
    while isinstance(command, click.Group):
        assert words and words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("-") and word.split("=")[0] not in options] == []
    required = [p for p in command.params if isinstance(p, click.Argument) and p.required]
    assert len([word for word in words if not word.startswith("-")]) >= len(required)


def pilots() -> list[dict[str, object]]:
    """Return the experiments of the guide to real sites: the first, and the first with the keys of the second."""
    guide = (APP_ROOT / "docker" / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"\n\n((?: {4}\S.*\n| {6}.*\n)+)", guide)
    first, second = (yaml.safe_load(block) for block in blocks if re.search(r"^ {4}data:$", block, re.MULTILINE))
    return [first, first | {name: first.get(name, {}) | keys for name, keys in second.items()}]


def test_the_guides_experiments_are_valid() -> None:
    plain, pretrained = (build(keys) for keys in pilots())
    assert (plain.model.weights, pretrained.model.train_from) == ("none", "features.18")
    check_train_from(pretrained)
    assert pretrained.model.weights == f"/data/{imagenet_file('mobilenet_v2').path.name}"
    assert imagenet_file("mobilenet_v2").url in (APP_ROOT / "docker" / "README.md").read_text(encoding="utf-8")
