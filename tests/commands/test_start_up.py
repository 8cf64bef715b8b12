"""`--help` and a mistyped word answer at once: they import neither PyTorch nor Flower, Ray or scikit-learn."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from cold import PROGRAMS, Answer, start, variables

from client_app.cli import cli as fednc_site
from server_app.cli import cli as fednc

HEAVY = {"torch", "torchvision", "ray", "flwr", "sklearn", "scipy", "onnx", "matplotlib", "pandas"}
SECONDS = 1.5  # of processor time

LIGHT = (
    *("common.config", "common.keys", "common.methods", "common.architectures", "common.data_sets"),
    *("common.errors", "common.paths", "server_app.api", "client_app.api"),
)

# a mistake of the user, and a word of the answer
MISTAKES = [
    ("fednc runn", "run"),
    ("fednc run --enginne local", "--engine"),
    ("fednc run configs/digits_lt.yaml --engine spark", "allowed: flower, local"),
    ("fednc run configs/digits_lt.yaml rouds=1", "did you mean 'rounds'"),
    ("fednc run configs/digits_lt.yaml rounds=0", "rounds = 0"),
    ("fednc run configs/digits_lt.yaml rounds", "key=value"),
    ("fednc run configs/digit_lt.yaml", "configs/digits_lt.yaml"),
    ("fednc run configs/digits_lt.yaml --superlink x data-dir=there", "partition: deployed"),
    ("fednc compare configs/digits_lt.yaml rouds=1", "did you mean 'rounds'"),
    ("fednc compare configs/digits_lt.yaml rounds=0", "rounds = 0"),
    ("fednc compare configs/digits_lt.yaml rounds=0 --methods fedavg", "rounds = 0"),
    ("fednc compare configs/digits_lt.yaml --methods fedlog", "fedloge"),
    ("fednc compare configs/digits_lt.yaml --study table", "table3"),
    ("fednc compare configs/digits_lt.yaml --seeds x", "seeds"),
    ("fednc compare configs/digits_lt.yaml seed=1", "--seeds"),
    ("fednc tune configs/digits_lt.yaml rouds=1", "did you mean 'rounds'"),
    ("fednc tune configs/digits_lt.yaml --grid rouds=1,2", "did you mean 'rounds'"),
    ("fednc tune configs/digits_lt.yaml --method fedlog", "fedloge"),
    ("fednc tune configs/digits_lt.yaml --by genric", "generic"),
    ("fednc report nowhere", "config.json"),
    ("fednc export", "FOLDER"),
    ("fednc export --hed x", "--head"),
    ("fednc follow seven", "seven"),
    ("fednc provision lst", "list"),
    ("fednc provision list nowhere", "nowhere"),
    ("fednc-site chek", "check"),
    ("fednc-site check --superlnk x", "--superlink"),
    ("fednc-site check", "nothing to look at"),
    ("fednc-site check nowhere.yaml", "nowhere.yaml"),
    ("fednc-site predict --modell x", "--model"),
    ("fednc-site predict images --model x --device gpu", "allowed: auto, cpu, cuda, mps"),
]


def commands() -> list[str]:
    """Return every command and group, each as a user types it: 'fednc', 'fednc run', …"""

    def below(words: str, command: object) -> list[str]:
        inner = getattr(command, "commands", {})
        return [words, *(word for name, each in inner.items() for word in below(f"{words} {name}", each))]

    apps = (("fednc", fednc), ("fednc-site", fednc_site))
    return [words for name, app in apps for words in below(name, typer.main.get_command(app))]


# a process that has imported what both commands begin with, and runs each that it reads in a copy of itself
FORKS = """
import atexit, json, os, sys
from importlib import import_module
programs = {name: import_module(module) for name, module in PROGRAMS.items()}
for line in sys.stdin:
    words, folder = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.chdir(folder)
    for number, name in enumerate(("in", "out", "error")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
    atexit.register(lambda: open("imported", "w").write(" ".join(sys.modules)))
    sys.argv = words
    sys.exit(programs[words[0]].main())
"""
Run = Callable[[str], tuple[set[str], Answer]]


@pytest.fixture(scope="module")
def forks() -> Iterator["subprocess.Popen[str]"]:
    program = FORKS.replace("PROGRAMS", repr(PROGRAMS))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], env=variables(), text=True, **pipes) as process:
        yield process
        process.kill()


@pytest.fixture
def run(forks: "subprocess.Popen[str]", tmp_path: Path) -> Run:
    """Return what runs a command in a process of its own; it gives the packages that were imported at its exit."""

    def run(command: str) -> tuple[set[str], Answer]:
        assert forks.stdin and forks.stdout
        print(json.dumps([command.split(), str(tmp_path)]), file=forks.stdin, flush=True)
        code = int(forks.stdout.readline())
        packages = {module.split(".")[0] for module in (tmp_path / "imported").read_text().split()}
        return packages, Answer(code, (tmp_path / "out").read_text(), (tmp_path / "error").read_text(), 0)

    return run


@pytest.mark.parametrize("command", commands())
def test_help_of_every_command_imports_nothing_heavy(command: str, run: Run) -> None:
    packages, answer = run(f"{command} --help")
    assert answer.code == 0 and f"Usage: {command} " in answer.out and not answer.error
    assert packages & HEAVY == set()


@pytest.mark.parametrize(("command", "hint"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistyped_word_imports_nothing_heavy(command: str, hint: str, run: Run) -> None:
    packages, answer = run(command)
    assert answer.code in (1, 2) and hint in answer.error and "Traceback" not in answer.error
    messages = {"flwr"} if "check nowhere" in command else set()  # its policy's words are those of the wire: 0.3 s
    assert packages & HEAVY <= messages


@pytest.mark.parametrize("module", LIGHT)
def test_what_is_read_first_imports_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", program], env=variables(), capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in shown.stdout.split()} & (HEAVY | {"numpy"}) == set()


@pytest.mark.parametrize("words", ["--help", "chekc", "--hlp"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_help_and_a_typo_take_little_time(name: str, words: str, tmp_path: Path) -> None:
    """The first, the second or the third time, since another process on the same processor makes one slower."""
    assert any(start(name, words, folder=tmp_path).cpu < SECONDS for _ in range(3))
